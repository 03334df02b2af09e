"""NUTS: smallest bulk effective sample size (ESS) a second, against CmdStan, NumPyro and PyMC.

Run as ``python benchmarks/nuts.py [--json FILE] [--quick] [--limit SECONDS]``. Every tool samples
the same posterior (standardized data, the same priors) with 4 chains on all cores:

- stangmm: its defaults, chains started around EM's optima; the seconds are `Fit.seconds`.
- textbook: benchmarks/textbook.stan in CmdStan at its defaults, as many chains at a time as cores.
- textbook-started: the same, but for the initial values, which are those of stangmm's chains. On
  the large set chains that start at random end in different modes; these do not, and need an hour
  (`--tools textbook-started --limit 6000`; not run unless named).
- numpyro: NUTS with its defaults and 1000 + 1000 iterations, float64, one host device a chain; the
  likelihood is one matrix product and a logsumexp.
- nutpie: the PyMC model with the same likelihood, nutpie's defaults (its own length of warm-up)
  and 1000 draws, as many chains at a time as cores.

Warm-up counts and compiling does not. Processor seconds ("cpu s", all cores) are given beside
those of the clock, since they are less disturbed by other work on the machine; stangmm's include
the relabelling and the checks that follow the draws. Every run is a
process of its own, in turns; ESS and R-hat are ArviZ's. They are given for what no relabelling
touches (log likelihood, log joint density, sorted weights) and, with every tool's labels settled
by `stangmm.posterior.relabel.stephens`, for weights, means and scales. The mean log likelihood
shows that all sample the same posterior.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import (
    Clock,
    Table,
    argument_parser,
    conclude,
    failure_of,
    machine,
    mixture_data,
)

CHAINS, WARMUP, DRAWS = 4, 1000, 1000
CORES = len(os.sched_getaffinity(0))
R_HAT_OK = 1.01

if "--worker" in sys.argv:  # chains run side by side, so that one thread each is enough
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={CHAINS}"

import numpy as np  # noqa: E402

import stangmm as sg  # noqa: E402
from stangmm.cmdstan import compiled_model  # noqa: E402
from stangmm.data.dataset import Dataset  # noqa: E402
from stangmm.methods.draws import McmcInfo  # noqa: E402
from stangmm.methods.stan.data import StanData  # noqa: E402
from stangmm.model.covariance import structure_named  # noqa: E402
from stangmm.model.joint import log_prior  # noqa: E402
from stangmm.model.mixture import Mixture, log_likelihood  # noqa: E402
from stangmm.model.problem import Problem  # noqa: E402
from stangmm.posterior.relabel import relabelled  # noqa: E402

# Name: rows, components, covariance type.
DATA_SETS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "galaxies": (sg.datasets.galaxies, 3, "diag"),
    "faithful": (sg.datasets.faithful, 2, "full"),
    "generated": (lambda: mixture_data(10_000, 4, 4), 4, "full"),
}


def problem_named(name: str) -> Problem:
    """Data set and default priors in standardized units, as every tool gets them."""
    table, k, covariance_type = DATA_SETS[name]
    structure = structure_named(covariance_type)
    return Problem.build(Dataset.from_input(table()), k, structure, sg.Priors())


def run_stangmm(name: str, problem: Problem, seed: int) -> dict[str, Any]:
    model = sg.GaussianMixture(problem.n_components, DATA_SETS[name][2])
    import arviz  # noqa: F401 - these two are imported by the fit; importing a peer is not timed
    import cmdstanpy  # noqa: F401

    warnings.simplefilter("ignore", sg.ConvergenceWarning)
    clock = Clock()
    fit = model.fit(problem.x, sg.NUTS(chains=CHAINS), seed=seed, progress=False)
    call = clock.times()
    times = call | {"seconds": fit.seconds, "call_seconds": call["seconds"]}
    assert isinstance(fit.info, McmcInfo)
    mixture = fit.mixture.reshape(CHAINS, -1)
    chol = {} if mixture.corr_chol is None else {"corr_chol": mixture.corr_chol}
    stats = fit.info.sample_stats
    return {
        "weights": mixture.weights,
        "means": mixture.means,
        "scales": mixture.scales,
        "leapfrogs": stats["n_steps"].sum(),
        **times,
        **chol,
    }


def starts_of_stangmm(problem: Problem, seed: int) -> list[dict[str, Any]]:
    """Initial values of the textbook's parameters, one for each chain, as `NUTS` chooses them."""
    from stangmm.methods.base import Run
    from stangmm.methods.stan.shared import jittered, plausible_optima

    run = Run(seed)
    optima = plausible_optima(problem, run)
    rng = run.rng("nuts jitter")
    mixtures = [jittered(optima[i % len(optima)].mixture, problem, rng) for i in range(CHAINS)]
    return [
        {name: values.tolist() for name, values in problem.space.free(m).items() if values.size}
        for m in mixtures
    ]


def run_textbook(
    name: str, problem: Problem, seed: int, starts: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    import cmdstanpy

    from stangmm.cmdstan.compile import compile_stan
    from stangmm.cmdstan.find import find_cmdstan

    program = Path(__file__).with_name("textbook.stan")
    exe = compile_stan(program, cmdstan=find_cmdstan(None), progress=False)
    model = cmdstanpy.CmdStanModel(exe_file=exe)
    cmdstanpy.disable_logging()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"start-{i}.json" for i in range(len(starts or []))]
        for file, start in zip(files, starts or [], strict=True):
            file.write_text(json.dumps(start))
        clock = Clock()
        fit = model.sample(
            StanData.of(problem).values(),
            inits=[str(file) for file in files] or None,
            chains=CHAINS,
            parallel_chains=min(CHAINS, CORES),
            seed=seed,
            output_dir=folder,
            show_progress=False,
        )
        draws = fit.draws()
        times = clock.times()
        names = ["weights", "means", "scales"] + ["corr_chol"] * (problem.n_features > 1)
        k, d = problem.n_components, problem.n_features
        if not problem.structure.n_correlations(k, d):
            names = names[:3]
        shaped = {v: np.asarray(fit.stan_variable(v)) for v in names}
        leapfrogs = fit.method_variables()["n_leapfrog__"].sum()
    # cmdstanpy gives variables chain by chain, one after the other.
    values = {v: a.reshape(CHAINS, draws.shape[0], *a.shape[1:]) for v, a in shaped.items()}
    return {**values, **times, "leapfrogs": leapfrogs}


def run_textbook_started(name: str, problem: Problem, seed: int) -> dict[str, Any]:
    return run_textbook(name, problem, seed, starts_of_stangmm(problem, seed))


def run_numpyro(name: str, problem: Problem, seed: int) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from jax.scipy.linalg import solve_triangular
    from jax.scipy.special import logsumexp

    data = StanData.of(problem)
    columns = jnp.asarray(problem.x.T)
    d, k = data.D, data.K

    def model() -> None:
        weights = numpyro.sample("weights", dist.Dirichlet(jnp.asarray(data.weights_concentration)))
        prior = dist.Normal(jnp.asarray(data.means_location), jnp.asarray(data.means_scale))
        means = numpyro.sample("means", prior.to_event(2))
        prior = dist.HalfCauchy(jnp.asarray(data.scale_scale))
        scales = numpyro.sample("scales", prior.to_event(2))
        log_det = jnp.log(scales).sum(axis=1)
        if data.n_correlations:
            prior = dist.LKJCholesky(d, data.correlation_shape).expand([k]).to_event(1)
            chol = numpyro.sample("corr_chol", prior)
            log_det += jnp.log(jnp.diagonal(chol, axis1=1, axis2=2)).sum(axis=1)
            whiten = jax.vmap(lambda f: solve_triangular(f, jnp.eye(d), lower=True))(
                scales[:, :, None] * chol
            )
            y = (whiten.reshape(k * d, d) @ columns).reshape(k, d, -1)
            y -= jnp.einsum("kij,kj->ki", whiten, means)[:, :, None]
        else:
            y = (columns - means[:, :, None]) / scales[:, :, None]
        log_joint = (jnp.log(weights) - log_det)[:, None] - 0.5 * (y * y).sum(axis=1)
        numpyro.factor("x", logsumexp(log_joint, axis=0).sum())

    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="parallel",
        progress_bar=False,
    )
    with compile_seconds() as compiling:
        clock, main_thread = Clock(), time.thread_time()
        mcmc.run(jax.random.PRNGKey(seed), extra_fields=("num_steps",))
        draws = {v: np.asarray(a) for v, a in mcmc.get_samples(group_by_chain=True).items()}
        times = clock.times()
        times["seconds"] -= compiling()
        # Tracing and compiling happen in this thread (some of it in others: that counts), which
        # only waits while the devices sample.
        times["cpu_seconds"] -= time.thread_time() - main_thread
        steps = np.asarray(mcmc.get_extra_fields(group_by_chain=True)["num_steps"])
    return {**draws, **times, "leapfrogs": steps.sum()}


@contextlib.contextmanager
def compile_seconds() -> Iterator[Callable[[], float]]:
    """Give a function that says how long JAX has spent on tracing and compiling.

    A first run to warm up the cache would take as long as the one that is measured, since the
    number of iterations is part of what is compiled.
    """
    import jax

    spans: list[tuple[float, float]] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile"):
            now = time.perf_counter()
            spans.append((now - seconds, now))

    def covered() -> float:
        total, reached = 0.0, -np.inf
        for start, end in sorted(spans):  # one inside another counts once
            total += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return total

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield covered


def run_nutpie(name: str, problem: Problem, seed: int) -> dict[str, Any]:
    import nutpie
    import pymc as pm
    import pytensor.tensor as pt

    data = StanData.of(problem)
    columns = pt.as_tensor(problem.x.T)
    d, k = data.D, data.K
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", data.weights_concentration)
        means = pm.Normal("means", data.means_location, data.means_scale, shape=(k, d))
        if data.n_correlations:
            factors, whiten, log_dets = [], [], []
            for c in range(k):
                sd = pm.HalfCauchy.dist(beta=data.scale_scale[c], shape=d)
                factor, _, _ = pm.LKJCholeskyCov(
                    f"chol{c}", n=d, eta=data.correlation_shape, sd_dist=sd, compute_corr=True
                )
                factors.append(factor)
                whiten.append(pt.linalg.solve_triangular(factor, pt.eye(d), lower=True))
                log_dets.append(pt.log(pt.diagonal(factor)).sum())
            pm.Deterministic("factor", pt.stack(factors))
            log_det = pt.stack(log_dets)
            y = pt.dot(pt.concatenate(whiten), columns).reshape((k, d, -1))
            y = y - pt.stack([pt.dot(whiten[c], means[c]) for c in range(k)])[:, :, None]
        else:
            scales = pm.HalfCauchy("scales", data.scale_scale, shape=(k, d))
            log_det = pt.log(scales).sum(axis=1)
            y = (columns - means[:, :, None]) / scales[:, :, None]
        log_joint = (pt.log(weights) - log_det)[:, None] - 0.5 * pt.sqr(y).sum(axis=1)
        pm.Potential("x", pt.logsumexp(log_joint, axis=0).sum())
    compiled = nutpie.compile_pymc_model(model)
    options = {"cores": min(CHAINS, CORES), "progress_bar": False}
    nutpie.sample(compiled, draws=5, tune=20, chains=1, seed=seed, **options)
    clock = Clock()
    trace = nutpie.sample(compiled, draws=DRAWS, chains=CHAINS, seed=seed, **options)
    times = clock.times()
    posterior = trace.posterior
    values = {"weights": posterior["weights"].values, "means": posterior["means"].values}
    if data.n_correlations:
        factor = posterior["factor"].values
        values["scales"] = np.sqrt((factor**2).sum(axis=-1))
        values["corr_chol"] = factor / values["scales"][..., np.newaxis]
    else:
        values["scales"] = posterior["scales"].values
    steps = trace.sample_stats["n_steps"].values
    return {**values, **times, "leapfrogs": steps.sum()}


TOOLS: dict[str, Callable[[str, Problem, int], dict[str, Any]]] = {
    "stangmm": run_stangmm,
    "textbook": run_textbook,
    "textbook-started": run_textbook_started,
    "numpyro": run_numpyro,
    "nutpie": run_nutpie,
}
NEEDS = {"numpyro": ["numpyro"], "nutpie": ["pymc", "nutpie"]}


def work(tool: str, name: str, seed: int, out: Path) -> None:
    """Sample with one tool, in this process, and save draws and seconds."""
    np.savez(out, **TOOLS[tool](name, problem_named(name), seed))


def run_apart(tool: str, name: str, seed: int, limit: float) -> dict[str, Any]:
    """Sample in another process, which is ended with all of its own at the limit."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "draws.npz"
        failure = failure_of([sys.executable, __file__, "--worker", tool, name, seed, out], limit)
        if failure:
            return {"failure": failure}
        with np.load(out) as arrays:
            return dict(arrays)


def judge(draws: dict[str, Any], problem: Problem) -> dict[str, float]:
    """Effective sample sizes and R-hat of the label-free and of the relabelled quantities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as az

    chains, length = draws["weights"].shape[:2]
    mixture = Mixture(draws["weights"], draws["means"], draws["scales"], draws.get("corr_chol"))
    flat = mixture.reshape(-1)
    log_lik = np.concatenate(
        [log_likelihood(flat[i : i + 50], problem.x) for i in range(0, chains * length, 50)]
    )
    log_joint = log_lik + log_prior(flat, problem.priors, problem.structure)
    free = {
        "log_likelihood": log_lik.reshape(chains, length),
        "log_joint": log_joint.reshape(chains, length),
        "sorted_weights": np.sort(mixture.weights, axis=-1),
    }
    settled = flat.permute(relabelled("stephens", flat, problem.x, pivot=int(np.argmax(log_joint))))
    settled = settled.reshape(chains, length)
    labelled = {"weights": settled.weights, "means": settled.means, "scales": settled.scales}

    def extreme(values: Any, function: Callable[[Any], float]) -> float:
        return float(function(np.concatenate([np.ravel(v.values) for v in values.values()])))

    r_hat = [extreme(az.rhat(q), np.max) for q in (free, labelled)]
    return {
        "ess_label_free": extreme(az.ess(free, method="bulk"), np.min),
        "ess_relabelled": extreme(az.ess(labelled, method="bulk"), np.min),
        "r_hat_label_free": r_hat[0],
        "r_hat": max(r_hat),
        "mean_log_likelihood": float(log_lik.mean()),
        "seconds": float(draws["seconds"]),
        "cpu_seconds": float(draws["cpu_seconds"]),
        "leapfrogs": float(draws["leapfrogs"]),
    }


def summary(runs: list[dict[str, Any]]) -> list[str]:
    """Cells of the table: medians over the seeds of one tool."""
    done = [run for run in runs if "failure" not in run]
    if not done:
        return [runs[0]["failure"], *[""] * (len(COLUMNS) - 1)]

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(value(run) for run in done)

    converged = sum(run["r_hat"] <= R_HAT_OK for run in done)
    return [
        f"{median(lambda r: r['seconds']):.2f}",
        f"{median(lambda r: r['cpu_seconds']):.2f}",
        f"{median(lambda r: r['leapfrogs']):.0f}",
        f"{median(lambda r: r['ess_label_free']):.0f}",
        f"{median(lambda r: r['ess_relabelled']):.0f}",
        f"{median(lambda r: r['ess_label_free'] / r['seconds']):.1f}",
        f"{median(lambda r: r['ess_relabelled'] / r['seconds']):.1f}",
        f"{max(r['r_hat'] for r in done):.3f}",
        f"{converged} of {len(runs)}",
        f"{median(lambda r: r['mean_log_likelihood']):.2f}",
    ]


COLUMNS = [
    "seconds", "cpu s", "leapfrogs", "ESS free", "ESS relab.", "ESS free/s", "ESS relab./s",
    "worst R-hat", "converged", "mean log lik",
]  # fmt: skip


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Run every tool on every data set, seeds outermost, and print a table for each data set."""
    results: list[dict[str, Any]] = []
    for name in arguments.data:
        problem = problem_named(name)
        n, d, k = problem.n_observations, problem.n_features, problem.n_components
        runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in arguments.tools}
        for seed in range(1, arguments.seeds + 1):
            for tool in arguments.tools:
                if seed > 1 and "failure" in runs[tool][-1]:
                    continue  # it would only take as long again
                run = run_apart(tool, name, seed, arguments.limit)
                if "failure" not in run:
                    run = judge(run, problem)
                runs[tool].append(run)
                results.append({"data": name, "tool": tool, "seed": seed, **run})
        print(f"\n{name}: N={n}, D={d}, K={k}, {DATA_SETS[name][2]}; {arguments.seeds} seeds\n")
        table = Table(["tool", *COLUMNS], [8] * (len(COLUMNS) + 1))
        for tool in arguments.tools:
            table.row([tool, *summary(runs[tool])])
    return results


def main() -> None:
    if "--worker" in sys.argv:
        tool, name, seed, out = sys.argv[-4:]
        work(tool, name, int(seed), Path(out))
        return
    parser = argument_parser(__doc__)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one run")
    parser.add_argument("--seeds", type=int, default=3)
    usual = [tool for tool in TOOLS if tool != "textbook-started"]
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=usual)
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 1
        arguments.data = [name for name in arguments.data if name != "generated"]
    facts = machine(["stangmm", "cmdstanpy", "numpyro", "jax", "pymc", "nutpie", "arviz"])
    for tool in list(arguments.tools):
        absent = [need for need in NEEDS.get(tool, []) if facts[need] == "missing"]
        if absent:
            print(f"{tool} is missing: pip install {' '.join(absent)}")
            arguments.tools.remove(tool)
    compiled_model(progress=False)  # so that no run compiles
    print(f"medians over seeds; converged: R-hat at most {R_HAT_OK} everywhere;")
    print("leapfrogs: those of the kept draws, all chains")
    conclude(arguments, facts, measure(arguments))


if __name__ == "__main__":
    main()
