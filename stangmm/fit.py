"""Fit: the same result object for every method, and all that one asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from stangmm import criteria
from stangmm import predict as _predict
from stangmm.arrays import FloatArray, IntArray
from stangmm.covariance import CovarianceStructure
from stangmm.data import Dataset
from stangmm.density import Mixture, log_prior
from stangmm.diagnostics import Diagnosis, diagnose
from stangmm.draws import Draws, Info, McmcInfo, VariationalInfo
from stangmm.errors import ModelError
from stangmm.methods.base import Kind, Method, check_count
from stangmm.prediction import Predictions
from stangmm.priors import ResolvedPriors
from stangmm.relabel import Relabelling, among, by_first_mean, checked_relabelling, relabelled
from stangmm.thresholds import PARETO_K_OK

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import arviz as az
    import pandas as pd
    import xarray as xr

    from stangmm.convergence import Convergence
    from stangmm.evidence import Evidence
    from stangmm.labels import Labels
    from stangmm.model import GaussianMixture
    from stangmm.modes import Modes
    from stangmm.plots import FitPlots


class Fit(Predictions):
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
    started_by_hand : bool
        Whether the search began where the user said (``init``).
    permutations : ndarray of int, shape (chain, draw, component)
        Component k of the posterior is component ``permutations[..., k]`` of the raw draws.
    relabelling : {"stephens", "ecr", "means"} or None
        How the labels were settled; None also where none was free, see `free_components`.
    info : RestartInfo, VariationalInfo or McmcInfo
        Facts of the run, for diagnostics.
    mixture : Mixture
        All draws flattened, batch of shape (S,), labels settled.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> print(fit.weights.round(3))
    [0.356 0.644]
    >>> print(fit.predict([[2.0, 50.0], [4.5, 80.0]]))
    [0 1]
    >>> fit.diagnose().verdict
    'ok'
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
        relabel: Relabelling | None,
        seed: int,
        seconds: float,
        versions: Mapping[str, str],
        started_by_hand: bool = False,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.settings = settings
        self.seed = seed
        self.seconds = seconds
        self.versions = dict(versions)
        self.priors = priors
        self.started_by_hand = started_by_hand
        self.info: Info = draws.info
        self._structure = structure
        self._shape = draws.mixture.batch_shape
        self._log_likelihood = draws.log_likelihood
        self._lp = draws.log_likelihood + log_prior(draws.mixture, priors, structure)
        self._settle_labels(draws.mixture.reshape(-1), relabel)

    def _settle_labels(self, flat: Mixture, relabel: Relabelling | None) -> None:
        n_draws, k = flat.weights.shape
        permutation = np.tile(np.arange(k), (n_draws, 1))
        free = self.free_components
        relabel = relabel if len(free) or k == 1 else None
        if relabel is not None:
            pivot = int(np.argmax(self._lp))
            data = self.dataset
            permutation = relabelled(relabel, flat, data.x, pivot, free, data.sample_weight)
            means = flat.permute(permutation).means.mean(axis=0)
            permutation = permutation[:, among(free, by_first_mean(means[free]), k)]
        self.relabelling: Relabelling | None = relabel
        self.permutations: IntArray = permutation.reshape(*self._shape, -1)
        self.mixture: Mixture = flat.permute(permutation)

    def relabel(self, how: Relabelling | None = "stephens") -> Fit:
        """Give the same fit with labels settled in another way.

        Parameters
        ----------
        how : {"stephens", "ecr", "means"} or None
            By the draws' responsibilities (Stephens 2000, doi:10.1111/1467-9868.00265), by their
            allocations of rows (ECR: Papastamoulis & Iliopoulos 2010,
            doi:10.1198/jcgs.2010.09008), by the mean in the first feature, or as drawn. Only
            `free_components` are relabelled.

        Returns
        -------
        Fit
            Densities, predictions and everything else that has no labels stay as they are.
        """
        how = checked_relabelling(how)
        other = self._copy()
        other._settle_labels(self.drawn.reshape(-1), how)
        return other

    def reordered(self, order: IntArray) -> Fit:
        """Give the same fit with component k being the present component ``order[k]``.

        Parameters
        ----------
        order : ndarray of int, shape (K,)
            A permutation of 0 to K-1.
        """
        other = self._copy()
        other.permutations = self.permutations[..., order]
        other.mixture = self.mixture.permute(order)
        return other

    def select_chains(self, chains: Sequence[int]) -> Fit:
        """Give the fit that some of the chains make.

        Parameters
        ----------
        chains : sequence of int
            Which chains, from 0.

        Raises
        ------
        ModelError
            There are no such chains.
        """
        n_chains = self._shape[0]
        index = list(chains)
        if not index or not set(index) <= set(range(n_chains)):
            raise ModelError(f"chains must be some of 0 to {n_chains - 1}, got {index}.")
        info = self.info
        return self._with_draws(
            self.shaped[index],
            self.permutations[index],
            self._log_likelihood[index],
            self._lp[index],
            info.of_chains(index) if isinstance(info, McmcInfo) else info,
        )

    def resample(self, n: int | None = None, *, seed: int | None = None) -> Fit:
        """Give draws corrected by importance: nearer to the posterior than the approximation's.

        Draws of the approximation are drawn again, with probabilities in proportion to their
        Pareto-smoothed importance weights (Yao et al. 2018, doi:10.48550/arXiv.1802.02538;
        Vehtari et al. 2024, https://jmlr.org/papers/v25/19-556.html). A draw may come twice.

        Parameters
        ----------
        n : int, optional
            How many; default: as many as there are.
        seed : int, optional

        Raises
        ------
        ModelError
            The fit is no approximation, or too far from the posterior to be corrected (Pareto
            k-hat of 0.7 or more).
        """
        from stangmm.arviz_bridge import importance_weights

        if not isinstance(self.info, VariationalInfo):
            raise ModelError(
                f'Only an approximation (such as method="advi") is resampled, got "{self.method}".'
            )
        if n is not None:
            check_count("n", n)
        weights, k = importance_weights(self.info)
        if not k < PARETO_K_OK:
            raise ModelError(
                f"The approximation is too far from the posterior for importance weights: its "
                f"Pareto k-hat is {k:.2f}, not below {PARETO_K_OK}. Use NUTS, or "
                'ADVI(algorithm="fullrank").'
            )
        rng = np.random.default_rng(seed)
        index = rng.choice(len(weights), len(weights) if n is None else n, p=weights)
        return self._with_draws(
            self.shaped[:, index],
            self.permutations[:, index],
            self._log_likelihood[:, index],
            self._lp[:, index],
            self.info,
        )

    def _with_draws(
        self,
        mixture: Mixture,
        permutations: IntArray,
        log_likelihood: FloatArray,
        lp: FloatArray,
        info: Info,
    ) -> Fit:
        other = self._copy()
        other.info = info
        other._shape = mixture.batch_shape
        other.permutations, other.mixture = permutations, mixture.reshape(-1)
        other._log_likelihood, other._lp = log_likelihood, lp
        return other

    def _copy(self) -> Fit:
        """Copy this fit, but for what is computed once from its draws."""
        other = copy(self)
        for name, attribute in vars(Fit).items():
            if isinstance(attribute, cached_property):
                other.__dict__.pop(name, None)
        return other

    @property
    def free_components(self) -> IntArray:
        """Components whose labels mean nothing: neither priors nor known rows tell them apart."""
        if not self.priors.exchangeable:
            return np.empty(0, dtype=int)
        return self.dataset.free_components(self.model.n_components)

    @property
    def method(self) -> str:
        """Short name of the method."""
        return self.settings.name

    @property
    def kind(self) -> Kind:
        """What the draws are: "point", "approximation" or "mcmc"."""
        return self.settings.kind

    @property
    def shaped(self) -> Mixture:
        """All draws, batch of shape (chain, draw), labels settled."""
        return self.mixture.reshape(*self._shape)

    @property
    def drawn(self) -> Mixture:
        """All draws, batch of shape (chain, draw), with the labels that they were drawn with."""
        return self.shaped.permute(np.argsort(self.permutations, axis=-1))

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
        shaped = self.shaped
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

    def log_likelihood(self) -> FloatArray:
        """Log density of each row of the data for each draw, shape (S, N), chain 0 first.

        For a row whose component is known, it is the joint density with its label.
        """
        return _predict.log_density_draws(self.mixture, self.dataset.x, self.dataset.labels)

    def aic(self) -> float:
        """Akaike's information criterion at the best draw, lower is better.

        Akaike 1974 (doi:10.1109/TAC.1974.1100705).
        """
        return criteria.aic(self)

    def bic(self) -> float:
        """Bayesian information criterion at the best draw, lower is better.

        Schwarz 1978 (doi:10.1214/aos/1176344136); meant for maximum likelihood.
        """
        return criteria.bic(self)

    def icl(self) -> float:
        """Integrated completed likelihood: BIC that also asks for components apart.

        Biernacki, Celeux & Govaert 2000 (doi:10.1109/34.865189); lower is better.
        """
        return criteria.icl(self)

    def to_arviz(self) -> az.InferenceData:
        """Give ArviZ InferenceData.

        Groups posterior, log_likelihood (of the rows), posterior_predictive (at most 100 data sets
        of N rows, from evenly spaced draws), observed_data, constant_data (sample weights and known
        labels, if any) and sample_stats (chains).
        """
        from stangmm.arviz_bridge import inference_data

        return inference_data(self, posterior_predictive=True)

    def loo(self, refit: bool = False, *, progress: bool = True) -> az.ELPDData:
        """Leave-one-out expected log predictive density by PSIS (doi:10.1007/s11222-016-9696-4).

        The log likelihood of a row has its label summed out. With sample weights, a row of weight
        w counts w times; what is left out is one copy.

        Parameters
        ----------
        refit : bool
            Whether rows for which importance sampling fails (high Pareto k) are computed exactly,
            by one more fit for each.
        progress : bool

        Returns
        -------
        arviz.ELPDData
            ``elpd_loo``, ``se``, ``p_loo`` and, by row, ``loo_i`` and ``pareto_k``.

        Raises
        ------
        ModelError
            For a point estimate, which has no posterior to reweight.

        Warns
        -----
        ConvergenceWarning
            There are rows of high Pareto k; which, and what to do.
        """
        return criteria.loo(self, refit, progress=progress)

    def waic(self) -> az.ELPDData:
        """Widely applicable information criterion, as an elpd (Watanabe 2010); prefer `loo`."""
        return criteria.waic(self)

    def summary(self) -> pd.DataFrame:
        """Table of weights, means and scales: mean, sd, 90% interval; for chains, R-hat and ESS.

        The interval is between the 5% and the 95% quantile. Covariances are in `posterior`.
        """
        from stangmm.arviz_bridge import summary

        return summary(self)

    @cached_property
    def labels(self) -> Labels:
        """How far the components' labels can be trusted: R-hat and ESS before and after, words."""
        from stangmm.labels import describe_labels

        return describe_labels(self)

    @cached_property
    def modes(self) -> Modes:
        """The chains grouped by the mode that they are in, label-free; print it for a table."""
        from stangmm.modes import Modes, group_chains

        return Modes(self, group_chains(self))

    def log_evidence(self, *, seed: int | None = None, progress: bool = True) -> Evidence:
        """Log marginal likelihood of the data by bridge sampling; see `Evidence`.

        Meng & Wong 1996; Gronau et al. 2017 (doi:10.1016/j.jmp.2017.09.005).

        Parameters
        ----------
        seed : int, optional
            For the proposal's draws; default: the fit's.
        progress : bool
            Whether it shows how far it is when it takes longer than a second.

        Returns
        -------
        Evidence

        Raises
        ------
        ModelError
            The draws are not from the posterior itself: use method="nuts".

        Warns
        -----
        ConvergenceWarning
            It should not be believed.
        """
        from stangmm.evidence import log_evidence

        return log_evidence(self, seed=seed, progress=progress)

    def diagnose(self) -> Diagnosis:
        """Check whether the fit can be believed; each check has a value, a threshold, a verdict."""
        return self._diagnosis

    @cached_property
    def _diagnosis(self) -> Diagnosis:
        return diagnose(self)

    @cached_property
    def _convergence(self) -> dict[str, Convergence]:
        """R-hat and effective sample sizes of each parameter, which several tables show."""
        from stangmm.arviz_bridge import measures_of

        return measures_of(self)

    @property
    def plot(self) -> FitPlots:
        """Pictures: ``fit.plot.density()``, ``.components()``, ``.trace()`` and more."""
        from stangmm.plots import FitPlots

        return FitPlots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fit to a netCDF file and give its path; `stangmm.load` reads it.

        The file has ArviZ's groups, too: ``az.from_netcdf(path)`` opens it. Where the log
        likelihood of the rows would take more than 128 MB, it is left out.

        Parameters
        ----------
        path : path
            A file that is there is replaced at once, when the new one is complete.

        Raises
        ------
        ModelError
            The folder does not exist, or the path is a folder.
        OSError
            The file could not be written; what was there before is as it was.
        """
        from stangmm.saving.writing import save

        return save(self, {"": self}, path)

    def report(self, path: str | os.PathLike[str], *, progress: bool = True) -> Path:
        """Write a self-contained HTML report and give its path.

        Parameters
        ----------
        path : str or path
            The file to write; its folder must exist. A file that is there is replaced.
        progress : bool
            Whether it shows how many pictures are drawn when it takes longer than a second.

        Returns
        -------
        Path

        Raises
        ------
        ModelError
            The folder does not exist.
        """
        from stangmm.report import fit_report

        return fit_report(self, path, progress=progress)

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.display import fit_html

        return fit_html(self)

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
