"""The pictures as methods: ``x.plot.name()``, and ``x.plot()`` for the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stangmm.judge.partition import partition_of
from stangmm.plots.accuracy import time_accuracy
from stangmm.plots.checks import loo, ppc, rank
from stangmm.plots.comparisons import densities, estimates
from stangmm.plots.differences import model_differences
from stangmm.plots.energy import energy
from stangmm.plots.goodness import pit
from stangmm.plots.mixtures import components, density
from stangmm.plots.partition import merge_path, partition
from stangmm.plots.posteriors import forest, pairs, responsibilities
from stangmm.plots.prior_predictive import prior_predictive
from stangmm.plots.priors import priors
from stangmm.plots.probabilities import model_probabilities
from stangmm.plots.profile import profile
from stangmm.plots.projection import projection
from stangmm.plots.regression import regression
from stangmm.plots.runs import elbo, em_path, trace
from stangmm.plots.selection import model_choice
from stangmm.plots.shown import Compared, ModelsCompared, PriorDraws, Selected, Weighed
from stangmm.plots.style import in_pyplot
from stangmm.posterior.fitted import Fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stangmm.judge.elpd import Loo


class FitPlots:
    """The pictures of one fit, as ``fit.plot``: Axes in (or made anew), Axes out.

    Examples
    --------
    >>> import stangmm as sg
    >>> fit = sg.GaussianMixture(n_components=2).fit(sg.datasets.faithful(), method="em", seed=1)
    >>> ax = fit.plot.density()
    >>> ax.figure.savefig("faithful.svg")
    >>> print(ax.get_xlabel(), ax.get_ylabel())
    eruption_min waiting_min
    """

    def __init__(self, fit: Fitted) -> None:
        self._fit = fit

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the density: ``fit.plot()``."""
        return self.density(ax)

    @in_pyplot
    def density(self, ax: Axes | None = None) -> Axes:
        """Draw the data with the mixture's density and, for draws, its 90% band."""
        return density(self._fit, ax)

    @in_pyplot
    def components(self, ax: Axes | None = None) -> Axes:
        """Draw each component separately, with its weight."""
        return components(self._fit, ax)

    @in_pyplot
    def em_path(self, ax: Axes | None = None) -> Axes:
        """Draw the objective over the iterations of every restart (EM, optimize)."""
        return em_path(self._fit, ax)

    @in_pyplot
    def elbo(self, ax: Axes | None = None) -> Axes:
        """Draw the evidence lower bound over the iterations (ADVI)."""
        return elbo(self._fit, ax)

    @in_pyplot
    def regression(self, target: Any, given: Any, ax: Axes | None = None) -> Axes:
        """Draw the mean of a feature given another, with its band and predictive interval.

        Parameters
        ----------
        target, given : str or int
            Names or positions of features.
        ax : matplotlib Axes, optional
        """
        return regression(self._fit, target, given, ax)

    @in_pyplot
    def trace(self, ax: Axes | None = None, *, rows: int | None = None) -> Axes:
        """Draw the chains (NUTS).

        Parameters
        ----------
        ax : matplotlib Axes, optional
        rows : int, optional
            Only so many rows of panels: those on which the chains agree least.
        """
        return trace(self._fit, ax, rows=rows)

    @in_pyplot
    def rank(self, ax: Axes | None = None, *, rows: int | None = None) -> Axes:
        """Draw how the draws of each chain rank among those of all (NUTS).

        Parameters
        ----------
        ax : matplotlib Axes, optional
        rows : int, optional
            Only so many rows of panels: those on which the chains agree least.
        """
        return rank(self._fit, ax, rows=rows)

    @in_pyplot
    def energy(self, ax: Axes | None = None) -> Axes:
        """Draw the energies of each chain against the steps between them (NUTS)."""
        return energy(self._fit, ax)

    @in_pyplot
    def ppc(self, ax: Axes | None = None) -> Axes:
        """Draw the data against data sets that the fit would give."""
        return ppc(self._fit, ax)

    @in_pyplot
    def pit(self, ax: Axes | None = None) -> Axes:
        """Draw whether the data are distributed like the mixture."""
        return pit(self._fit, ax)

    @in_pyplot
    def loo(self, ax: Axes | None = None, *, result: Loo | None = None) -> Axes:
        """Draw the Pareto k of every row: for which of them LOO can be trusted.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        result : Loo, optional
            What ``fit.loo()`` gave, so that it is not computed again.

        Returns
        -------
        matplotlib Axes
        """
        return loo(self._fit, ax, result=result)

    @in_pyplot
    def forest(self, ax: Axes | None = None) -> Axes:
        """Draw weights, means and scales with their 50% and 90% intervals."""
        return forest(self._fit, ax)

    @in_pyplot
    def profile(self, ax: Axes | None = None) -> Axes:
        """Draw the components' means in each feature, in standard deviations of the data."""
        return profile(self._fit, ax)

    @in_pyplot
    def projection(self, ax: Axes | None = None) -> Axes:
        """Draw rows and components in the plane in which the components are furthest apart."""
        return projection(self._fit, ax)

    @in_pyplot
    def priors(self, ax: Axes | None = None) -> Axes:
        """Draw the prior of each weight, mean and scale beside its posterior."""
        return priors(self._fit, ax)

    @in_pyplot
    def responsibilities(self, ax: Axes | None = None) -> Axes:
        """Draw for every row the probability of each component, stacked."""
        return responsibilities(self._fit, ax)

    @in_pyplot
    def partition(self, ax: Axes | None = None) -> Axes:
        """Draw which rows belong together, ordered by cluster; see `Fit.partition`."""
        return partition(partition_of(self._fit), ax)

    @in_pyplot
    def merge_path(self, ax: Axes | None = None) -> Axes:
        """Draw the entropy of the clusters as components are joined; see `Fit.merge_path`."""
        return merge_path(self._fit, ax)

    @in_pyplot
    def pairs(self, ax: Axes | None = None, *, component: int | None = None) -> Axes:
        """Draw pairs of the parameters of one component, divergent draws marked.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        component : int, optional
            Which one; by default the one of smallest weight.

        Returns
        -------
        matplotlib Axes
        """
        return pairs(self._fit, ax, component=component)


class ComparisonPlots:
    """The pictures of a comparison, as ``comparison.plot``: Axes in (or made anew), Axes out.

    Those of a single method are its fit's: ``comparison.fits["advi"].plot.elbo()``.

    Examples
    --------
    >>> import stangmm as sg
    >>> model = sg.GaussianMixture(n_components=2)
    >>> methods = ["em", sg.EM(restarts=5)]
    >>> comparison = sg.compare(model, sg.datasets.faithful(), methods=methods, seed=1)
    >>> ax = comparison.plot.densities()
    >>> [panel.get_title(loc="left") for panel in ax.child_axes]
    ['em', 'em 2']
    """

    def __init__(self, comparison: Compared) -> None:
        self._comparison = comparison

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the methods' densities over the data: ``comparison.plot()``."""
        return self.densities(ax)

    @in_pyplot
    def densities(self, ax: Axes | None = None) -> Axes:
        """Draw the methods' densities over the data."""
        return densities(self._comparison, ax)

    @in_pyplot
    def estimates(self, ax: Axes | None = None) -> Axes:
        """Draw weights, means and scales of all methods side by side, with 90% intervals."""
        return estimates(self._comparison, ax)

    @in_pyplot
    def time_accuracy(self, ax: Axes | None = None) -> Axes:
        """Draw the time that each method took against its distance to the reference."""
        return time_accuracy(self._comparison, ax)


class ModelComparisonPlots:
    """The picture of compared models, as ``comparison.plot``: Axes in (or made anew), Axes out.

    Examples
    --------
    >>> import stangmm as sg
    >>> models = [sg.GaussianMixture(k) for k in (1, 2, 3)]
    >>> comparison = sg.compare(models, sg.datasets.galaxies(), methods=["em"], seed=1)
    >>> print(comparison.plot.differences().get_xlabel())
    BIC, worse than the best by
    """

    def __init__(self, comparison: ModelsCompared) -> None:
        self._comparison = comparison

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the differences: ``comparison.plot()``."""
        return self.differences(ax)

    @in_pyplot
    def differences(self, ax: Axes | None = None) -> Axes:
        """Draw how much worse than the best each model is."""
        return model_differences(self._comparison, ax)


class SelectionPlots:
    """The picture of a selection, as ``selection.plot``: Axes in (or made anew), Axes out.

    Examples
    --------
    >>> import stangmm as sg
    >>> choice = sg.select_components(sg.datasets.galaxies(), [1, 2, 3], method="em", seed=1)
    >>> print(choice.plot.choice().get_ylabel())
    BIC (lower is better)
    """

    def __init__(self, selection: Selected) -> None:
        self._selection = selection

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the choice: ``selection.plot()``."""
        return self.choice(ax)

    @in_pyplot
    def choice(self, ax: Axes | None = None) -> Axes:
        """Draw the criterion over the number of components, with the choice marked."""
        return model_choice(self._selection, ax)


class PosteriorPlots:
    """The picture of a posterior over models, as ``posterior.plot``: Axes in (or made), Axes out.

    Examples
    --------
    >>> import stangmm as sg
    >>> choice = sg.select_components(
    ...     sg.datasets.faithful(), [1, 2], method=sg.NUTS(draws=250), criterion="evidence", seed=1
    ... )
    >>> print(choice.posterior().plot.probabilities().get_ylabel())
    probability
    """

    def __init__(self, posterior: Weighed) -> None:
        self._posterior = posterior

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the probabilities: ``posterior.plot()``."""
        return self.probabilities(ax)

    @in_pyplot
    def probabilities(self, ax: Axes | None = None) -> Axes:
        """Draw how probable each number of components is, beside how many hold rows."""
        return model_probabilities(self._posterior, ax)


class PriorPlots:
    """The picture of draws from the prior, as ``drawn.plot``: Axes in (or made anew), Axes out.

    Examples
    --------
    >>> import stangmm as sg
    >>> drawn = sg.GaussianMixture(2).prior_predictive(sg.datasets.galaxies(), seed=1)
    >>> print(drawn.plot.densities().get_xlabel())
    velocity_1000km_s
    """

    def __init__(self, drawn: PriorDraws) -> None:
        self._drawn = drawn

    def __call__(self, ax: Axes | None = None) -> Axes:
        """Draw the densities: ``drawn.plot()``."""
        return self.densities(ax)

    @in_pyplot
    def densities(self, ax: Axes | None = None) -> Axes:
        """Draw the data with the densities from the prior, a panel for each feature."""
        return prior_predictive(self._drawn, ax)
