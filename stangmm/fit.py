"""Fit: the same result object for every method, and all that one asks of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from stangmm.base.checked import check_count, random_generator
from stangmm.base.errors import ConvergenceWarning, ModelError
from stangmm.base.names import hint
from stangmm.base.thresholds import PARETO_K_OK
from stangmm.judge import criteria, leave_one_out
from stangmm.judge.diagnostics import Diagnosis, diagnose
from stangmm.judge.goodness import GoodnessOfFit, goodness_of_fit
from stangmm.methods.draws import VariationalInfo
from stangmm.posterior.fitted import Fitted
from stangmm.predict.predictions import Predictions

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from stangmm.judge.elpd import Elpd, Loo
    from stangmm.judge.evidence import Evidence
    from stangmm.judge.labelling import Labelling
    from stangmm.judge.merging import MergePath
    from stangmm.judge.modes import Modes
    from stangmm.judge.partition import Partition
    from stangmm.plots import FitPlots
    from stangmm.posterior.arviz import ArvizData


_FEATURES_SHOWN = 4  # by `repr`


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Fitted, Predictions):
    """A fitted mixture; made by `GaussianMixture.fit`.

    A point estimate is a posterior with one draw, so everything below works for every method.
    Component labels are settled; `permutations` shows how.

    Attributes
    ----------
    model : GaussianMixture
    dataset : Dataset
        The data of the fit; of Dask data with many rows a random sample of them, and what is known
        of all (``dataset.all_rows``).
    method : str
        Short name of the method.
    kind : {"point", "approximation", "mcmc"}
        What kind of draws these are.
    settings : Method
        The method with its settings.
    seed : int
    seconds : float
        Wall time of the whole fit, without compiling the model.
    versions : mapping of str to str
    priors : ResolvedPriors
        The priors that were used, with full shapes, in the data's units.
    started_by_hand : bool
        Whether the user gave starting values (``init``).
    permutations : ndarray of int, shape (chain, draw, component)
        Component k of the posterior is component ``permutations[..., k]`` of the raw draws.
    relabelling : {"stephens", "ecr", "means"} or None
        How the labels were settled; None also if no label was free, see `free_components`.
    info : RestartInfo, VariationalInfo or McmcInfo
        Facts of the run, for diagnostics.
    mixture : Mixture
        All draws flattened, batch of shape (S,), labels settled.
    total_log_likelihood : ndarray, shape (chain, draw)
        Log likelihood of all rows for each draw.
    lp : ndarray, shape (chain, draw)
        Log joint density (prior times likelihood) of each draw.
    created_at : str
        When the fit was made: UTC, as ISO 8601 has it.
    reason : str
        Why ``method="auto"`` chose this method; empty where the user named it.
    combination : Combination or None
        The modes that were combined, by `combined`.
    kept : dict
        Results that are computed only once.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> print(fit.weights.round(3))
    [0.356 0.644]
    >>> print(fit.predict([[2.0, 50.0], [4.5, 80.0]]))
    [0 1]
    >>> fit.diagnose().computation.verdict
    'ok'
    """

    def resample(self, n: int | None = None, *, seed: int | None = None) -> Fit:
        """Resample the draws by importance weights, which brings them nearer to the posterior.

        Draws of the approximation are drawn again, with probabilities in proportion to their
        Pareto-smoothed importance weights (Yao et al. 2018, doi:10.48550/arXiv.1802.02538;
        Vehtari et al. 2024, https://jmlr.org/papers/v25/19-556.html). A draw may occur twice.

        Parameters
        ----------
        n : int, optional
            How many; default: as many as there are.
        seed : int, optional

        Raises
        ------
        ModelError
            The fit is not an approximation, or its draws have been resampled already (those of
            ``method="laplace"`` are), or it is too far from the posterior to be corrected (Pareto
            k-hat of 0.7 or more).
        """
        from stangmm.methods.psis import importance_weights

        if not isinstance(self.info, VariationalInfo):
            raise ModelError(
                'Only an approximation (such as method="advi") can be resampled, got '
                f'"{self.method}".'
            )
        if self.info.resampled:
            raise ModelError(
                f'The draws of "{self.method}" have been resampled by their importance weights '
                "already."
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
        rng = random_generator(seed)
        index = rng.choice(len(weights), len(weights) if n is None else n, p=weights)
        return self._at((slice(None), index))

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
        """Integrated completed likelihood: BIC with a penalty for components that overlap.

        Biernacki, Celeux & Govaert 2000 (doi:10.1109/34.865189); lower is better.
        """
        return criteria.icl(self)

    def to_arviz(self) -> ArvizData:
        """Give what ArviZ works on: InferenceData for ArviZ 0.23, an xarray DataTree for ArviZ 1.

        The groups are those of ArviZ's schema:

        posterior, unconstrained_posterior
            The draws, labels settled; and in the coordinates in which every real number is allowed.
        log_likelihood
            Of each row for each draw, its label summed out.
        posterior_predictive
            A data set of N rows for each draw; from evenly spaced draws where all together would
            hold more than 2^23 numbers.
        prior, prior_predictive, log_prior
            1000 draws from the prior with a data set each, their labels as they come; and the log
            prior density of each posterior draw, of the weights, means, scales and correlations
            apart. Not where the likelihood alone was maximized.
        sample_stats
            What the sampler measured.
        warmup_posterior, warmup_sample_stats
            With ``NUTS(save_warmup=True)``; labels as in the first draw that is kept.
        observed_data, constant_data
            The rows; their sample weights and known labels, if any.

        Each says who made it and when: ``inference_library``, ``inference_library_version``,
        ``created_at``, ``sampling_time`` (in seconds: the whole fit), ``cmdstan_version``.
        """
        from stangmm.posterior.arviz import arviz_data

        return arviz_data(self)

    @property
    def stan_code(self) -> str:
        """The model as one Stan program, whatever the fit's method; `stan_data` is its data.

        The likelihood is the one in plain Stan, so that every interface to Stan compiles it. Its
        parameters are those of standardized data: see `stan_data`.
        """
        from stangmm.methods.stan.program import stan_code

        return stan_code()

    @property
    def stan_data(self) -> dict[str, Any]:
        """Data of `stan_code`: numbers and arrays by the names of its data block.

        They are what the methods in CmdStan start from: the columns of ``x`` have mean 0 and
        standard deviation 1 (one common factor for spherical covariances), or median 0 and a larger
        one where values lie far out. The priors are in these units, rows of weight zero are left
        out, and rows that miss values or whose component is known come in groups.
        """
        from stangmm.methods.stan.data import StanData
        from stangmm.model.problem import Problem

        model = self.model
        which = model.n_components, model.structure, model.priors, model.noise
        problem = Problem.build(self.dataset, *which)
        return StanData.of(problem).values()

    def loo(
        self, refit: bool = False, *, subsample: int | None = None, progress: bool = True
    ) -> Loo:
        """Leave-one-out expected log predictive density by PSIS (doi:10.1007/s11222-016-9696-4).

        The log likelihood of a row has its label summed out. With sample weights, a row of weight
        w counts w times; what is left out is one copy.

        Parameters
        ----------
        refit : bool
            Whether to compute rows for which importance sampling fails (high Pareto k) exactly,
            with one more fit for each.
        subsample : int, optional
            How many rows to visit, at least 8; all rows if there are no more. By default all are
            visited, if these are at most 2^25 rows times draws, and else some thousands, so many
            that the error of that, ``subsampling_se``, is small beside the standard error of LOO.
            The sums are then those of the difference estimator (Magnusson et al. 2019, 2020,
            https://proceedings.mlr.press/v108/magnusson20a.html). Three quarters of the rows are
            drawn at random, the same in every fit of the data, and a quarter are those on which
            the posterior depends most.
        progress : bool

        Returns
        -------
        Loo

        Raises
        ------
        ModelError
            For a point estimate, which has no posterior to reweight; a subsample that is not a
            number of rows.

        Warns
        -----
        ConvergenceWarning
            Some rows have a high Pareto k; the warning says which, and what to do.
        """
        return leave_one_out.loo(self, refit, subsample=subsample, progress=progress)

    def waic(self) -> Elpd:
        """Widely applicable information criterion, as an elpd (Watanabe 2010); prefer `loo`."""
        return criteria.waic(self)

    def summary(self) -> pd.DataFrame:
        """Table of weights, means, scales and correlations, one row for each parameter.

        For draws: mean, sd and the 5% and 95% quantiles, the ends of the 90% interval; for chains
        also R-hat and ESS. For a point estimate: the estimate, in the column ``mean``.
        Correlations are within a component, or within all if they share one covariance matrix.
        Covariances are in `posterior`.

        Warns
        -----
        ConvergenceWarning
            The chains are in different modes, over which these numbers are pooled: use `combined`,
            or the summary of each of `modes`.
        """
        from stangmm.base.printed import PrintedTable
        from stangmm.judge.modes import pooled_words
        from stangmm.posterior.summary import summary

        table = PrintedTable(summary(self))
        table.note = pooled_words(self)
        self._warn_of_modes()
        return table

    def rows(self, *, progress: bool = True) -> pd.DataFrame:
        """Table of the rows of the data: the component of each, how sure, and how unusual.

        Parameters
        ----------
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        DataFrame
            One row for each row of the data, with the index of the pandas table that was fitted;
            of other data, and of a loaded fit, counted from 0. ``component`` is the most probable
            component, or the known one; ``probability`` is the posterior mean of P(z = component
            given x) and, for draws, ``q5`` and ``q95`` are its 90% interval.
            ``tail_probability`` is the share of the predictive distribution that is no denser than
            the row (see `outlier_score`), and ``outlier`` says whether it is below 0.001, as for
            one row in a thousand.

        Warns
        -----
        ConvergenceWarning
            The chains are in different modes, over which the probabilities are pooled; see
            `summary`.

        Examples
        --------
        >>> import stangmm as sg
        >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
        >>> print(fit.rows().head(2).round(3).to_string())
             component  probability  tail_probability  outlier
        row
        0            1          1.0             0.222    False
        1            0          1.0             0.589    False
        """
        from stangmm.judge.membership import rows_of

        self._warn_of_modes()
        return rows_of(self, progress=progress)

    def partition(self, *, progress: bool = True) -> Partition:
        """Give the rows in clusters: the partition nearest to those of the posterior.

        It has the least posterior expected variation of information (Wade & Ghahramani 2018,
        doi:10.1214/17-BA1073), needs no settled labels, and says how sure each row is. It is
        searched among hierarchical clusterings of the posterior similarity matrix and components
        of single draws, which are improved row by row. ``fit.plot.partition()`` shows it.

        Parameters
        ----------
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        Partition

        Warns
        -----
        ConvergenceWarning
            The chains are in different modes, over which the draws are pooled; see `summary`.

        Examples
        --------
        >>> import stangmm as sg
        >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
        >>> print(fit.partition().to_dataframe()[["cluster", "certainty"]].head(2).round(2))
             cluster  certainty
        row
        0          1        1.0
        1          0        1.0
        """
        from stangmm.judge.partition import partition_of

        self._warn_of_modes()
        return partition_of(self, progress=progress)

    def merge_path(self) -> MergePath:
        """Join components that overlap into clusters, two at a time, by their entropy.

        Baudry, Raftery, Celeux, Lo & Gottardo 2010 (doi:10.1198/jcgs.2010.08111). What is joined
        are the posterior means of the rows' probabilities, so that labels must be settled; see
        `labelling`. ``fit.plot.merge_path()`` shows it.

        Returns
        -------
        MergePath

        Warns
        -----
        ConvergenceWarning
            The chains are in different modes, over which the probabilities are pooled; see
            `summary`.
        """
        from stangmm.judge.merging import merge_path_of

        self._warn_of_modes()
        return merge_path_of(self)

    def describe(self) -> str:
        """Methods and results in one paragraph with references: a first draft for a paper.

        Returns
        -------
        str
            Model, method, priors, checks, components, software and seed, and the references with
            their DOIs. The same fit gives the same text.

        Examples
        --------
        >>> import stangmm as sg
        >>> fit = sg.GaussianMixture(2).fit(sg.datasets.faithful(), method="em", seed=1)
        >>> print(fit.describe()[:76])
        A Gaussian mixture model of two components with a separate covariance matrix
        """
        from stangmm.report.description import description

        return description(self)

    @property
    def labelling(self) -> Labelling:
        """How far the components' labels can be trusted: R-hat and ESS before and after."""
        from stangmm.judge.labelling import labelling_of

        return labelling_of(self)

    @property
    def modes(self) -> Modes[Fit]:
        """The modes of the posterior that the chains are in; print it for a table."""
        from stangmm.judge.modes import modes_of

        return modes_of(self)

    def combined(self, *, seed: int | None = None, progress: bool = True) -> Fit:
        """Combine the modes that the chains are in into one posterior, each with its weight.

        The weights are the modes' shares of the evidence, by bridge sampling in each mode. Each
        mode contributes draws in proportion to its weight, evenly spaced; if its weight is larger
        than its share of the chains, some draws occur more than once. The result is a fit like any
        other: summary, predictions, LOO, report and file are those of the combined posterior. Its
        `combination` has the modes with their weights, and the fit with the original chains.
        `diagnose` judges the weights, and each mode by its own chains.

        Parameters
        ----------
        seed : int, optional
            For the bridges' proposals and the order of the draws; default: the fit's seed.
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        Fit
            The fit itself, if all chains are in one mode.

        Raises
        ------
        ModelError
            The method runs no chains, or a mode has fewer than 20 draws.
        InferenceError
            A mode cannot be weighted.

        Warns
        -----
        ConvergenceWarning
            A check of the combined fit failed, or found something that can change a conclusion.
        """
        from stangmm.judge.combining import combined

        whole = combined(self, seed=seed, progress=progress)
        if whole is not self:
            for check in whole.diagnose().serious:
                warnings.warn(str(check), check.warning, stacklevel=2)
        return whole

    def log_evidence(self, *, seed: int | None = None, progress: bool = True) -> Evidence:
        """Log marginal likelihood of the data; see `Evidence`.

        From draws of a sampler it is computed by bridge sampling, from Laplace's by their
        importance weights.

        In part of the posterior some components may hold no row. If the draws may miss too much of
        that part, fits with fewer components are made with the same settings, to add it.

        Meng & Wong 1996; Gronau et al. 2017 (doi:10.1016/j.jmp.2017.09.005).

        Parameters
        ----------
        seed : int, optional
            For the proposal's draws; default: the fit's seed.
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        Evidence

        Raises
        ------
        ModelError
            The draws are not from the posterior itself: use method="nuts" or "laplace".

        Warns
        -----
        ConvergenceWarning
            The evidence cannot be trusted.
        """
        from stangmm.judge.whole import whole_evidence

        return whole_evidence(self, seed=seed, progress=progress)

    def goodness_of_fit(self) -> GoodnessOfFit | None:
        """Test whether the fitted mixture describes the data, and say where it does not.

        Neyman's smooth tests of the probability integral transforms of each feature and of the log
        density, tests of the correlations and scales that the covariance type leaves out, of the
        farthest row and of repeated values. They allow for the fact that the same data were fitted,
        and are adjusted for their number by Holm's method. `diagnose` has the verdict;
        ``fit.plot.pit()`` shows it.

        Returns
        -------
        GoodnessOfFit or None
            None for fewer than ten rows.
        """
        return goodness_of_fit(self)

    def diagnose(self) -> Diagnosis:
        """Check whether the fit can be trusted; each check has a value, a threshold, a verdict."""
        return diagnose(self)

    @property
    def plot(self) -> FitPlots:
        """Pictures: ``fit.plot.density()``, ``.components()``, ``.trace()`` and more."""
        from stangmm.plots import FitPlots

        return FitPlots(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the fit to a netCDF file and give its path; `stangmm.load` reads it.

        The file also has ArviZ's groups: ``az.from_netcdf(path)`` opens it. The log likelihood of
        the rows is left out if it would take more than 128 MB.

        Parameters
        ----------
        path : path
            An existing file is replaced, at once, when the new one is complete.

        Raises
        ------
        ModelError
            The folder does not exist, or the path is a folder.
        OSError
            The file could not be written; what was there before is unchanged.
        """
        from stangmm.saving.writing import save

        return save("fit", self, {"": self}, path)

    def report(self, path: str | os.PathLike[str], *, progress: bool = True) -> Path:
        """Write a self-contained HTML report and give its path.

        Parameters
        ----------
        path : str or path
            The file to write; its folder must exist. An existing file is replaced.
        progress : bool
            Whether to show progress when it takes longer than a second.

        Returns
        -------
        Path

        Raises
        ------
        ModelError
            The folder does not exist, or the path is a folder.
        OSError
            The file could not be written; what was there before is unchanged.
        """
        from stangmm.report import fit_report

        return fit_report(self, path, progress=progress)

    def __getattr__(self, name: str) -> NoReturn:
        """Say what a thing is called here."""
        raise AttributeError(f"A fit has no {name!r}.{hint(name)}")

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import fit_html

        return fit_html(self)

    def __repr__(self) -> str:
        """One line for each component, of each mode if the chains are in different ones."""
        from stangmm.judge.chains import chains_words
        from stangmm.judge.modes import is_divided

        d = self.dataset
        lines = [
            f"{type(self).__name__}(method={self.method!r}, K={self.model.n_components}, "
            f"N={d.n_rows}, D={d.n_features}, covariance_type="
            f"{self.model.covariance_type!r}, seed={self.seed}, {self.seconds:.1f} s)"
        ]
        if self.reason:
            lines.append(f"  {self.reason}")
        if self.combination is not None:
            shares = ", ".join(f"{mode.weight:.3g}" for mode in self.combination.modes)
            lines.append(f"  combined of {len(self.combination.modes)} modes, weights {shares}")
        if is_divided(self):
            modes = self.modes
            lines.append(f"  in {len(modes)} modes, not combined: combined() weights them")
            for m, (chains, own) in enumerate(zip(modes.chains, modes.fits, strict=True)):
                lines.append(f"  mode {m}, {chains_words(chains)}")
                lines += (f"  {line}" for line in own._component_lines())
        else:
            lines += self._component_lines()
        if d.sample_note:
            lines.insert(1, f"  {d.sample_note}")
        if self.model.noise:
            lines.append(f"  noise: weight {self.noise_weight:.3f}")
        if d.n_features > _FEATURES_SHOWN:
            lines.append(
                f"  (the first {_FEATURES_SHOWN} of {d.n_features} features; summary() has all)"
            )
        return "\n".join(lines)

    def _warn_of_modes(self) -> None:
        """Warn the caller of a public method if its answer is pooled over modes."""
        from stangmm.judge.modes import pooled_words

        if words := pooled_words(self):
            warnings.warn(words, ConvergenceWarning, stacklevel=3)

    def _component_lines(self) -> Iterator[str]:
        names = self.dataset.feature_names[:_FEATURES_SHOWN]
        for k in range(self.model.n_components):
            values = ", ".join(
                f"{name} {mean:.4g} (sd {scale:.3g})"
                for name, mean, scale in zip(names, self.means[k], self.scales[k], strict=False)
            )
            yield f"  {k}: weight {self.weights[k]:.3f}, {values}"
