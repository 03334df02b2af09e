"""GaussianMixture: the user's entry. Says what is to be fitted; `fit` says how."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from stangmm.base.checked import check_count, random_generator
from stangmm.base.memory import check_memory
from stangmm.base.names import checks_names, hint, made_by_names
from stangmm.data.dataset import Dataset, Missing
from stangmm.fit import Fit
from stangmm.methods import Method, MethodName, as_method
from stangmm.methods.base import Run
from stangmm.model.spec import MixtureSpec
from stangmm.posterior.fitting import checked_seed, fitted
from stangmm.posterior.relabel import Relabelling, checked_relabelling

if TYPE_CHECKING:
    from stangmm.prior_predictive import PriorPredictive

_LOG = logging.getLogger("stangmm")


@made_by_names
@dataclass(frozen=True, repr=False)
class GaussianMixture(MixtureSpec):
    """A Gaussian mixture model, for any method.

    Parameters
    ----------
    n_components : int
        K, at least 1.
    covariance_type : str
        What the components' covariance matrices share: "full", "tied", "tied_correlation", "diag",
        "tied_diag", "spherical" or "tied_spherical", or mclust's letters for it; for EM also VEI,
        EVI, VEE, EVV, EEV and VEV.
    priors : Priors, optional
        Priors left out get defaults that are scaled by the data; EM and
        ``Optimize(objective="mle")`` do not use them.
    noise : bool or float
        True: beside the K components there is one with a uniform density over the box of the data,
        which holds the rows that belong to none of them. A positive number is the volume that it
        has instead, in the units of the data: the box is stretched evenly to it.

    Raises
    ------
    ModelError
        K below 1, an unknown covariance type, priors that are not `Priors`, or noise of no volume.

    Examples
    --------
    >>> import stangmm as sg
    >>> galaxies = sg.datasets.galaxies()
    >>> fit = sg.GaussianMixture(3, "diag").fit(galaxies, method="em", seed=1)
    >>> print(f"{fit.total_log_likelihood.item():.4f}")
    -203.1792
    """

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from stangmm.report.notebook import model_html

        return model_html(self)

    def __getattr__(self, name: str) -> NoReturn:
        """Say what a thing is called here."""
        raise AttributeError(f"A model has no {name!r}.{hint(name)}")

    @checks_names
    def fit(
        self,
        X: Any,
        method: MethodName | Method = "nuts",
        *,
        seed: int | None = None,
        sample_weight: Any = None,
        labels: Any = None,
        missing: Missing = "error",
        init: Any = None,
        relabel: Relabelling | None = "stephens",
        progress: bool = True,
    ) -> Fit:
        """Fit the model.

        Parameters
        ----------
        X : array, list, DataFrame or Series, shape (N, D) or (N,)
            Observations in rows, in any units. EM and Laplace go through those of Dask chunk by
            chunk; other methods read them into memory if they fit.
        method : str or Method
            "em", "optimize", "advi", "nuts", "laplace", "auto", "pathfinder", "stan_laplace", or
            settings such as ``NUTS(draws=2000)``.
        seed : int, optional
            Not negative. The same seed, settings and versions give the same draws on any x86-64
            processor with AVX2, unless the likelihood is nearly flat; without one a seed is drawn
            and kept in the fit.
        sample_weight : array, shape (N,), optional
            How often each row counts; 2**53 in all at the most.
        labels : array, shape (N,), optional
            Known components, from 0; -1 or NaN where unknown. A row with a known component counts
            with its joint density, and components that are named here keep their numbers.
        missing : {"error", "marginalize"}
            What NaN in X means: an error, or a value to be integrated out, so that each row counts
            with the features that it has.
        init : array or Fit, optional
            Starting values instead of a search: means of the components, shape (K, D); a component
            for each row, shape (N,); or another fit with as many components of the same features.
            Means must differ, and lie no further outside the data than a hundred times their range.
        relabel : {"stephens", "ecr", "means"} or None
            How the components' labels are settled after sampling; see `Fit.relabel`.
        progress : bool
            Whether to show progress when it takes longer than a second, on standard error.

        Returns
        -------
        Fit

        Raises
        ------
        DataError, ModelError
            Before anything starts: the data, the model or the settings cannot be used.
        CmdStanNotFoundError, CompileError
            A method needs CmdStan.
        InferenceError
            The method failed; ``partial`` is a Fit of the chains that finished, if any did.

        Warns
        -----
        ConvergenceWarning
            A check of the finished fit failed, or found something that can change a conclusion; see
            `Fit.diagnose`.
        MisfitWarning
            The same for the check of the goodness of fit.
        """
        settings = as_method(method)
        relabel = checked_relabelling(relabel)
        dataset = Dataset.from_input(X, sample_weight, labels=labels, missing=missing)
        run = Run(checked_seed(seed), progress)
        fit = fitted(Fit, self, dataset, settings, run, relabel=relabel, init=init)
        advance = run.progress("checks", 1)
        serious = fit.diagnose().serious
        advance(1)
        for check in serious:
            warnings.warn(str(check), check.warning, stacklevel=2)
        _LOG.info("fitted %s in %.2f s", settings.name, fit.seconds)
        return fit

    def prior_predictive(
        self,
        X: Any,
        n: int = 50,
        *,
        seed: int | None = None,
        sample_weight: Any = None,
        missing: Missing = "error",
    ) -> PriorPredictive:
        """Draw data sets from the prior, to see what the model considers possible.

        Parameters
        ----------
        X : array, list, DataFrame or Series, shape (N, D) or (N,)
            The data: priors that are left out are scaled by them.
        n : int
            How many data sets, each of N rows.
        seed : int, optional
        sample_weight, missing
            As in `fit`.

        Returns
        -------
        PriorPredictive
            ``x`` (n, N, D), ``mixtures``, and ``plot()`` for a picture beside the data.
        """
        from stangmm.prior_predictive import prior_predictive

        check_count("n", n)
        dataset = Dataset.from_input(X, sample_weight, missing=missing)
        check_memory(f"n = {n} data sets", 8.0 * n * dataset.x.size, "Ask for fewer.")
        return prior_predictive(self, dataset, n, random_generator(seed))
