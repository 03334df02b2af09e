"""Fit: the same result object for every method, and all that one asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stangmm import predict as _predict
from stangmm.arrays import FloatArray, IntArray
from stangmm.covariance import CovarianceStructure
from stangmm.data import Dataset, as_new_rows
from stangmm.density import Mixture, log_prior
from stangmm.diagnostics import Diagnosis, diagnose
from stangmm.draws import Draws, Info
from stangmm.errors import ModelError
from stangmm.methods.base import Kind, Method, check_count
from stangmm.priors import ResolvedPriors
from stangmm.relabel import by_first_mean, stephens

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import arviz as az
    import pandas as pd
    import xarray as xr

    from stangmm.model import GaussianMixture
    from stangmm.plots import FitPlots


class Fit:
    """A fitted mixture; made by `GaussianMixture.fit`.

    A point estimate is a posterior of one draw, so that everything below works for every method.
    Component labels are settled: `permutations` tells how.

    Attributes
    ----------
    model : GaussianMixture
    dataset : Dataset
        The data of the fit.
    method : str
        Short name of the method.
    kind : {"point", "approximation", "mcmc"}
    settings : Method
        The method with its settings.
    seed : int
    seconds : float
        Wall time of the whole fit, compilation of the model left out.
    versions : mapping of str to str
    priors : ResolvedPriors
        The priors that were used, with full shapes, in the data's units.
    permutations : ndarray of int, shape (chain, draw, component)
        Component k of the posterior is component ``permutations[..., k]`` of the raw draws.
    info : RestartInfo, VariationalInfo or McmcInfo
        Facts of the run, for diagnostics.
    mixture : Mixture
        All draws flattened, batch of shape (S,), labels settled.
    """

    def __init__(
        self,
        model: GaussianMixture,
        dataset: Dataset,
        settings: Method,
        draws: Draws,
        *,
        structure: CovarianceStructure,
        priors: ResolvedPriors,
        seed: int,
        seconds: float,
        versions: Mapping[str, str],
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.settings = settings
        self.seed = seed
        self.seconds = seconds
        self.versions = dict(versions)
        self.priors = priors
        self.info: Info = draws.info
        self._structure = structure
        self._shape = draws.mixture.batch_shape
        flat = draws.mixture.reshape(-1)
        self._log_likelihood = draws.log_likelihood
        self._lp = draws.log_likelihood + log_prior(draws.mixture, priors, structure)
        permutation = self._settle_labels(flat)
        self.permutations: IntArray = permutation.reshape(*self._shape, -1)
        self.mixture: Mixture = flat.permute(permutation)

    def _settle_labels(self, flat: Mixture) -> IntArray:
        n_draws, k = flat.weights.shape
        if not self.priors.exchangeable:
            return np.tile(np.arange(k), (n_draws, 1))
        permutation = stephens(flat, self.dataset.x, pivot=int(np.argmax(self._lp)))
        order = by_first_mean(flat.permute(permutation).means.mean(axis=0))
        return permutation[:, order]

    def reordered(self, order: IntArray) -> Fit:
        """Give the same fit with component k being the present component ``order[k]``."""
        other = copy(self)
        for cached in ("covariances", "posterior"):
            other.__dict__.pop(cached, None)
        other.permutations = self.permutations[..., order]
        other.mixture = self.mixture.permute(order)
        return other

    @property
    def method(self) -> str:
        """Short name of the method."""
        return self.settings.name

    @property
    def kind(self) -> Kind:
        """What the draws are: "point", "approximation" or "mcmc"."""
        return self.settings.kind

    @property
    def weights(self) -> FloatArray:
        """Posterior mean of the weights, shape (K,)."""
        return np.asarray(self.mixture.weights.mean(axis=0))

    @property
    def means(self) -> FloatArray:
        """Posterior mean of the component means, shape (K, D)."""
        return np.asarray(self.mixture.means.mean(axis=0))

    @cached_property
    def covariances(self) -> FloatArray:
        """Posterior mean of the covariance matrices, shape (K, D, D)."""
        return np.asarray(self.mixture.covariances.mean(axis=0))

    @property
    def scales(self) -> FloatArray:
        """Posterior mean of the standard deviations, shape (K, D)."""
        return np.asarray(self.mixture.scales.mean(axis=0))

    @property
    def lp(self) -> FloatArray:
        """Log joint density (prior times likelihood) of each draw, shape (chain, draw)."""
        return self._lp

    @property
    def total_log_likelihood(self) -> FloatArray:
        """Log likelihood of all rows for each draw, shape (chain, draw)."""
        return self._log_likelihood

    @cached_property
    def posterior(self) -> xr.Dataset:
        """Draws with named dimensions, labels settled.

        ``weights`` (chain, draw, component), ``means`` and ``scales`` (chain, draw, component,
        feature), ``covariances`` (chain, draw, component, feature, feature_bis), ``lp`` (chain,
        draw).
        """
        import xarray as xr

        c, s = self._shape
        shaped = self.mixture.reshape(c, s)
        names = list(self.dataset.feature_names)
        per_feature = ("chain", "draw", "component", "feature")
        return xr.Dataset(
            {
                "weights": (("chain", "draw", "component"), shaped.weights),
                "means": (per_feature, shaped.means),
                "scales": (per_feature, shaped.scales),
                "covariances": ((*per_feature, "feature_bis"), shaped.covariances),
                "lp": (("chain", "draw"), self.lp),
            },
            coords={
                "chain": np.arange(c),
                "draw": np.arange(s),
                "component": np.arange(self.model.n_components),
                "feature": names,
                "feature_bis": names,
            },
            attrs={"method": self.method, "kind": self.kind, "seed": self.seed},
        )

    def predict_proba(self, X: Any) -> FloatArray:
        """Probability of each component for each row, averaged over the draws.

        Parameters
        ----------
        X : array or DataFrame, shape (N, D)

        Returns
        -------
        ndarray, shape (N, K)

        Raises
        ------
        DataError
            The rows do not have the features of the fit, or are not finite numbers.
        """
        return _predict.responsibilities(self.mixture, self._rows(X))

    def predict(self, X: Any) -> IntArray:
        """Most probable component (0 to K-1) of each row, shape (N,)."""
        labels: IntArray = np.argmax(self.predict_proba(X), axis=1)
        return labels

    def log_density(self, X: Any) -> FloatArray:
        """Log predictive density of each row, shape (N,); errors as `predict_proba`."""
        return _predict.log_density(self.mixture, self._rows(X))

    def sample(self, n: int, seed: int | None = None) -> tuple[FloatArray, IntArray]:
        """Draw new observations from the predictive distribution.

        Returns
        -------
        x : ndarray, shape (n, D)
        labels : ndarray of int, shape (n,)
            The component that each came from.
        """
        check_count("n", n)
        return _predict.sample(self.mixture, n, np.random.default_rng(seed))

    def log_likelihood(self) -> FloatArray:
        """Log density of each row of the data for each draw, shape (S, N), chain 0 first."""
        return _predict.log_density_draws(self.mixture, self.dataset.x)

    def bic(self) -> float:
        """Bayesian information criterion at the best draw, lower is better (Schwarz 1978).

        Meant for point estimates by maximum likelihood (doi:10.1214/aos/1176344136).
        """
        d = self.dataset.n_features
        free = self.model.n_parameters(d)
        best = float(self._log_likelihood.max())
        return free * float(np.log(self.dataset.total_weight)) - 2.0 * best

    def to_arviz(self) -> az.InferenceData:
        """Give ArviZ InferenceData: posterior, log likelihood of the rows, data, sample stats."""
        from stangmm.arviz_bridge import inference_data

        return inference_data(self)

    def loo(self) -> az.ELPDData:
        """Leave-one-out expected log predictive density by PSIS (doi:10.1007/s11222-016-9696-4).

        The log likelihood of a row has its label summed out. With sample weights, a row of weight
        w counts w times.

        Raises
        ------
        ModelError
            For a point estimate, which has no posterior to reweight.
        """
        if self.kind == "point":
            raise ModelError(
                f'LOO needs draws, and "{self.method}" gives one point. Use method="nuts", or '
                "bic() to compare point estimates."
            )
        from stangmm.arviz_bridge import loo

        return loo(self)

    def summary(self) -> pd.DataFrame:
        """Table of weights, means and scales: mean, sd, 90% interval; for chains, R-hat and ESS.

        The interval is between the 5% and the 95% quantile. Covariances are in `posterior`.
        """
        from stangmm.arviz_bridge import summary

        return summary(self)

    def diagnose(self) -> Diagnosis:
        """Check whether the fit can be believed; each check has a value, a threshold, a verdict."""
        return diagnose(self)

    @property
    def plot(self) -> FitPlots:
        """Pictures: ``fit.plot.density()``, ``.components()``, ``.trace()`` and more."""
        from stangmm.plots import FitPlots

        return FitPlots(self)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write a self-contained HTML report and give its path."""
        from stangmm.report import fit_report

        return fit_report(self, path)

    def __repr__(self) -> str:
        """One line for each component."""
        d = self.dataset
        lines = [
            f"{type(self).__name__}(method={self.method!r}, K={self.model.n_components}, "
            f"N={d.n_observations}, D={d.n_features}, covariance_type="
            f"{self.model.covariance_type!r}, seed={self.seed}, {self.seconds:.1f} s)"
        ]
        for k in range(self.model.n_components):
            values = ", ".join(
                f"{name} {mean:.4g} (sd {scale:.3g})"
                for name, mean, scale in zip(
                    d.feature_names[:4], self.means[k], self.scales[k], strict=False
                )
            )
            lines.append(f"  {k}: weight {self.weights[k]:.3f}, {values}")
        return "\n".join(lines)

    def _rows(self, X: Any) -> FloatArray:
        return as_new_rows(X, self.dataset)
