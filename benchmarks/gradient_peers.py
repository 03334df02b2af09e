"""The log density and its gradient as JAX and stanli compute them, for gradient.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Seconds of a number of evaluations."""

    processor: float
    clock: float
    least: float  # of a single one, by the clock


def time_calls(function: Callable[[], object], repeats: int) -> Timing:
    """Time a number of calls."""
    least = float("inf")
    processor, start = time.process_time(), time.perf_counter()
    last = start
    for _ in range(repeats):
        function()
        end = time.perf_counter()
        least, last = min(least, end - last), end
    return Timing(time.process_time() - processor, last - start, least)


class JaxPeer:
    """The posterior written in JAX: batched over observations, jit-compiled, float64."""

    def __init__(self, data: dict[str, Any], parameters: dict[str, Any]) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        from jax.scipy.linalg import solve_triangular
        from jax.scipy.special import betaln, gammaln, logsumexp
        from jax.scipy.stats import norm

        d, k = data["D"], data["K"]
        correlated = data["n_correlations"] > 0
        x = jnp.asarray(data["x"])
        alpha = jnp.asarray(data["weights_concentration"])
        location, spread = jnp.asarray(data["means_location"]), jnp.asarray(data["means_scale"])
        gamma, eta = jnp.asarray(data["scale_scale"]), data["correlation_shape"]
        rows, columns = np.tril_indices(d, -1)

        def simplex(u: Any) -> tuple[Any, Any]:  # stick-breaking
            z = jax.nn.sigmoid(u - jnp.log(jnp.arange(k - 1, 0, -1)))
            left = jnp.concatenate([jnp.ones(1), jnp.cumprod(1 - z)])
            weights = left * jnp.concatenate([z, jnp.ones(1)])
            return weights, jnp.sum(jnp.log(z) + jnp.log1p(-z) + jnp.log(left[:-1]))

        def cholesky(u: Any) -> tuple[Any, Any]:  # canonical partial correlations
            z = jnp.zeros((d, d)).at[rows, columns].set(jnp.tanh(u))
            remaining = jnp.cumprod(1 - z**2, axis=1)
            before = jnp.concatenate([jnp.ones((d, 1)), remaining[:, :-1]], axis=1)
            root = jnp.sqrt(before)
            factor = jnp.tril(z * root, -1) + jnp.diag(jnp.diagonal(root))
            jacobian = jnp.sum(jnp.log1p(-(jnp.tanh(u) ** 2)))
            return factor, jacobian + 0.5 * jnp.sum(jnp.log(before)[rows, columns])

        def lkj(factor: Any) -> Any:
            i = jnp.arange(1, d)
            shape = eta + (d - 1 - i) / 2
            constant = -jnp.sum(
                (d - i) * (2 * eta - 2 + d - i) * jnp.log(2.0) + (d - i) * betaln(shape, shape)
            )
            power = d - jnp.arange(2, d + 1) + 2 * eta - 2
            return constant + jnp.sum(power * jnp.log(jnp.diagonal(factor)[1:]))

        def log_density(point: dict[str, Any]) -> Any:
            weights, jacobian = simplex(point["weights"])
            means, scales = point["means"], jnp.exp(point["scales"])
            total = jacobian + jnp.sum(point["scales"])
            total += gammaln(alpha.sum()) - gammaln(alpha).sum()
            total += jnp.sum((alpha - 1) * jnp.log(weights))
            total += norm.logpdf(means, location, spread).sum()
            total += jnp.sum(
                jnp.log(2 / jnp.pi) - jnp.log(gamma) - jnp.log1p((scales / gamma) ** 2)
            )
            log_det = jnp.log(scales).sum(axis=1)
            if correlated:
                corr, jacobians = jax.vmap(cholesky)(point["corr_chol"])
                total += jacobians.sum() + jax.vmap(lkj)(corr).sum()
                factor = scales[:, :, None] * corr
                log_det += jnp.log(jnp.diagonal(corr, axis1=1, axis2=2)).sum(axis=1)
                y = jax.vmap(lambda f, m: solve_triangular(f, (x - m).T, lower=True))(factor, means)
                square = (y**2).sum(axis=1)
            else:
                square = (((x - means[:, None]) / scales[:, None]) ** 2).sum(axis=2)
            log_joint = (jnp.log(weights) - log_det)[:, None] - 0.5 * square
            return total + jnp.sum(logsumexp(log_joint, axis=0) - 0.5 * d * jnp.log(2 * jnp.pi))

        weights = np.asarray(parameters["weights"])
        left = 1 - np.concatenate([[0], np.cumsum(weights)[:-2]])
        z = weights[:-1] / left
        self._point = {
            "weights": np.log(z / (1 - z)) + np.log(np.arange(k - 1, 0, -1)),
            "means": np.asarray(parameters["means"]),
            "scales": np.log(parameters["excess"]),
        }
        if correlated:
            chol = np.asarray(parameters["corr_chol"])
            before = 1 - np.cumsum(chol**2, axis=2) + chol**2
            partial = chol[:, rows, columns] / np.sqrt(before[:, rows, columns])
            self._point["corr_chol"] = np.arctanh(partial)
        self._function = jax.jit(jax.value_and_grad(log_density))
        self._block = jax.block_until_ready
        self.value = float(self._function(self._point)[0])

    def time(self, repeats: int) -> Timing:
        """Evaluate a number of times."""
        return time_calls(lambda: self._block(self._function(self._point)), repeats)


class StanliPeer:
    """The portable Stan program, run by stanli's interpreter."""

    def __init__(
        self, data: dict[str, Any], parameters: dict[str, Any], model: Path, kernel: Path
    ) -> None:
        import stanli

        arrays = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in data.items()}
        self._model = stanli.Model(stan_file=model, data=arrays, include_paths=[kernel])
        values = {name: np.asarray(v) for name, v in parameters.items()}
        self._point = self._model.unconstrain(values)
        # stanli's simplex is the isometric log-ratio one, whose Jacobian is sqrt(K) times larger.
        log_density = float(self._model.log_prob_grad(self._point)[0])
        self.value = log_density - 0.5 * np.log(data["K"])

    def time(self, repeats: int) -> Timing:
        """Evaluate a number of times."""
        return time_calls(lambda: self._model.log_prob_grad(self._point), repeats)
