"""Which pictures the report of a fit shows, with what they mean and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stangmm import plots
from stangmm.judge.diagnostics import OF_ALL_CHAINS
from stangmm.judge.goodness import goodness_of_fit
from stangmm.judge.leave_one_out import bad_rows
from stangmm.methods.draws import McmcInfo, VariationalInfo
from stangmm.plots.runs import chain_rows
from stangmm.posterior.fitted import Fitted, has_priors
from stangmm.report.numbers import count
from stangmm.report.words import listed, method_words

if TYPE_CHECKING:
    from stangmm.judge.elpd import Loo
    from stangmm.plots.shown import Axes

_ROWS, _ROWS_AGREED = 4, 1  # of panels of the chains; where they passed their checks
# Checks of whether the sampler could follow the posterior.
_GEOMETRY = ("divergences", "tree depth", "E-BFMI")


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes
    ----------
    title : str
    draw : callable
        Gives the Axes.
    alt : str
        What is seen, for those who do not see it.
    caption : str
        What it means and how to read it.
    """

    title: str
    draw: Callable[[], Axes]
    alt: str
    caption: str


def density_picture(fit: Fitted, title: str = "The mixture and the data") -> Picture:
    """The data with the mixture density."""
    d, k = fit.dataset.n_features, fit.model.n_components
    names = listed(fit.dataset.feature_names)
    draws = fit.kind != "point"
    if d == 1:
        alt = f"Histogram of {names} with the density of {count(k, 'component')} together" + (
            " and its 90% band." if draws else "."
        )
        caption = "Bars: the data. Black line: the density of the mixture. " + (
            "Coloured lines: what each component adds to it." if k > 1 else ""
        )
        if draws:
            caption += " Grey band: where the density lies with 90% probability at each point."
    else:
        alt = f"Scatter of {names}, rows coloured by component, with an ellipse for each of " + (
            f"{count(k, 'component')}."
        )
        caption = (
            "Rows have the colour of their most probable component, paler where that is uncertain. "
            "Ellipses hold 50% and 95% of a component. "
        )
        caption += (
            "Grey shades hold 50%, 80% and 95% of the mixture."
            if d == 2
            else "On the diagonal: each feature's histogram and its density in the mixture."
        )
        if draws:
            caption += " Thin ellipses are single draws: their scatter shows the uncertainty."
    return Picture(title, lambda: plots.density(fit), alt, caption)


def projection_pictures(fit: Fitted) -> Iterator[Picture]:
    """The plane that shows the components apart, where there are more than two features."""
    if fit.dataset.n_features < 3:
        return
    yield Picture(
        "The view in which the components are furthest apart",
        lambda: plots.projection(fit),
        f"Scatter of the rows in two directions, with an ellipse for each of "
        f"{count(fit.model.n_components, 'component')}.",
        "The rows in the two directions in which the components differ most, in means or in "
        "covariances. Each axis says what share of the differences it shows, and which feature it "
        "is most correlated with. If the shares sum to much less than 100%, components that "
        "overlap here may still be apart in another direction.",
    )


def components_picture(fit: Fitted) -> Picture:
    """The components apart."""
    return Picture(
        f"The components, by {method_words(fit.method)}",
        lambda: plots.components(fit),
        f"The {count(fit.model.n_components, 'component')} apart, each labelled with its weight.",
        "Each component by itself; the number is its weight, the share of the data that it holds. "
        "Rows have the colour of their most probable component.",
    )


def run_pictures(fit: Fitted, *, brief: bool = False) -> Iterator[Picture]:
    """Pictures of what the method did, by what it is; of a combined fit, before it was.

    Brief ones are for fits that passed their checks: they take as long as all others together.
    """
    before = ""
    if fit.combination is not None:
        fit, before = fit.combination.source, " These are the chains before the modes were "
        before += "combined: chains in different modes differ."
    info = fit.info
    if isinstance(info, McmcInfo):
        chains, draws = fit.lp.shape
        rows = _ROWS_AGREED if brief else _ROWS
        yield Picture(
            "The chains",
            lambda: plots.trace(fit, rows=rows),
            f"Traces of {chains} chains of {draws:,} draws, with the density that each chain gives "
            "beside them.",
            "The chains should look alike: the same level, the same width, no drift. On the right, "
            f"their densities should coincide.{before}{_least_agreed(fit, rows, 'trace')}",
        )
    elif isinstance(info, VariationalInfo):
        if len(info.elbo):
            yield Picture(
                "The evidence lower bound",
                lambda: plots.elbo(fit),
                f"The ELBO over {info.elbo_iterations[-1]:,.0f} iterations; it "
                f"{'converged' if info.converged else 'did not converge'}.",
                "The bound that the approximation maximizes. It should level off; the remaining "
                "jumps are Monte Carlo noise. A flat end means that the approximation is as good "
                "as its family allows, not that it is good: for that, see the k-hat check.",
            )
    else:
        yield components_picture(fit)
        collapsed = int(info.collapsed.sum())
        yield Picture(
            "The restarts",
            lambda: plots.em_path(fit),
            f"The {info.objective} of {len(info.values)} restarts; {info.best.restarts} reached "
            f"the best optimum and {collapsed} collapsed.",
            f"Every start climbs to an optimum; {count(len(info.optima), 'different one')} "
            f"{'was' if len(info.optima) == 1 else 'were'} found. The more starts reach the best "
            "one, the less likely it is that a better one exists. A collapsed restart has a "
            "component on a few rows; its likelihood is meaningless.",
        )


def forest_pictures(fit: Fitted) -> Iterator[Picture]:
    """The components' parameters beside each other, where they have intervals.

    Where the profiles show the means, and for one component, the table of the components has the
    rest.
    """
    if fit.kind == "point" or fit.model.n_components == 1 or _has_profiles(fit):
        return
    yield Picture(
        "The components side by side",
        lambda: plots.forest(fit),
        f"Weights, means and scales of {count(fit.model.n_components, 'component')} as dots with "
        "their 50% and 90% intervals.",
        "Dots: posterior means. Thick and thin lines: 50% and 90% intervals. Where the lines of "
        "two components overlap, this parameter hardly tells them apart.",
    )


def profile_pictures(fit: Fitted) -> Iterator[Picture]:
    """The components' means over the features, where a plane does not show them all."""
    if not _has_profiles(fit):
        return
    bars = " Bars: 90% intervals of the means." if fit.kind != "point" else ""
    yield Picture(
        "The profiles",
        lambda: plots.profile(fit),
        f"Means of {count(fit.model.n_components, 'component')} in each feature, in standard "
        "deviations of the data, joined by a line for each component.",
        "Zero is the mean of all rows. Where a component's line is high, it is above average in "
        f"that feature; features in which the lines meet do not tell the components apart.{bars}",
    )


def _has_profiles(fit: Fitted) -> bool:
    return fit.dataset.n_features > 2 and fit.model.n_components > 1


def row_pictures(fit: Fitted) -> Iterator[Picture]:
    """Which component each row belongs to; nothing for one component, which has them all."""
    if fit.model.n_components == 1:
        return
    yield Picture(
        "Which component each row belongs to",
        lambda: plots.responsibilities(fit),
        f"For every row the probability of each of {count(fit.model.n_components, 'component')}, "
        "stacked, rows ordered by their most probable component; a dashed line at 0.9.",
        "Every row is a thin vertical bar, divided by the probability of each component. Rows are "
        "grouped by their most probable component, the most certain first. Rows are undecided "
        "where the colour of their group falls below the dashed line, at the right of the group.",
    )


def _least_agreed(fit: Fitted, rows: int, method: str) -> str:
    """What a picture of the chains leaves out."""
    if len(chain_rows(fit)) <= rows:
        return ""
    return (
        " Only the parameters on which the chains agree least are shown; "
        f"fit.plot.{method}() shows all."
    )


def further_pictures(fit: Fitted, failed: Collection[str]) -> Iterator[Picture]:
    """What helps to find out why the computation went wrong: pictures of the checks that failed.

    Chains that differ because they are in different modes are seen in their traces.

    Parameters
    ----------
    fit : Fit
    failed : names of checks
        Those that were not passed.
    """
    if fit.kind == "point" or not failed:
        return
    stats = fit.info.sample_stats if isinstance(fit.info, McmcInfo) else {}
    slow = any(name in failed for name in OF_ALL_CHAINS) and "modes" not in failed
    if "energy" in stats and "E-BFMI" in failed:
        yield Picture(
            "The energy",
            lambda: plots.energy(fit),
            f"For each chain a histogram of the draws' energies, a line for the changes of energy "
            f"from draw to draw, and its E-BFMI; {count(len(fit.lp), 'chain')}.",
            "Filled: the energies of the draws. Line: the changes of energy from one draw to the "
            "next. The two should be about equally wide. If the line is much narrower (an E-BFMI "
            "below 0.3), the sampler moves slowly through the tails of the posterior, and part of "
            "them may be missing.",
        )
    if slow or not stats or any(name in failed for name in _GEOMETRY):
        smallest = int(fit.weights.argmin())
        divergent = (
            " Crosses are divergent draws: where they cluster, the sampler had difficulties."
            if "diverging" in stats
            else ""
        )
        yield Picture(
            "Pairs of parameters",
            lambda: plots.pairs(fit),
            f"Draws of the parameters of component {smallest} in pairs, with a histogram of each.",
            f"Each dot is a draw of component {smallest}"
            + (", the smallest, after relabelling" if fit.model.n_components > 1 else "")
            + ". A single round or slanted cloud is fine. A funnel or a bow is hard to sample; "
            f"two clouds are two different solutions.{divergent}",
        )
    if slow and isinstance(fit.info, McmcInfo) and fit.combination is None and len(fit.lp) > 1:
        yield Picture(
            "The ranks",
            lambda: plots.rank(fit, rows=_ROWS),
            f"For each of {len(fit.lp)} chains, how many of its draws are among the low, middle "
            "and high draws of all chains, with a band around 1.",
            "All draws of a parameter are ranked, the lowest on the left. Chains that agree give "
            "lines near 1, within the grey band. A chain that leaves the band is too low, too high "
            "or too narrow: it has not sampled the same posterior as the others."
            + _least_agreed(fit, _ROWS, "rank"),
        )


def predictive_pictures(fit: Fitted, loo: Callable[[], Loo] | None) -> Iterator[Picture]:
    """Whether the model describes the data.

    Parameters
    ----------
    fit : Fit
    loo : callable, optional
        Gives the result of leave-one-out; there is a picture of it if it cannot be trusted for some
        rows.
    """
    yield Picture(
        "Does the fit give data like these?",
        lambda: plots.ppc(fit),
        "Histograms of the data, with the median and the 90% range of replicated data sets in each "
        "bin.",
        "Grey: the data. Blue: the median and the 90% range, in each bin, of 400 data sets drawn "
        "from the fit. Bars outside that range are crossed; expect about one in ten. Several side "
        "by side, all too high or all too low, show what the mixture misses: a gap, a spike, a "
        "heavier tail.",
    )
    found = goodness_of_fit(fit)
    if found is not None and found.asked_shape and found.verdict != "ok":
        several = fit.dataset.n_features > 1
        yield Picture(
            "Are the data distributed like the mixture?",
            lambda: plots.pit(fit),
            ("For features" if several else "For the feature")
            + (", those that do not fit first, and their joint density," if several else "")
            + " the share of the rows below each quantile of the mixture, minus the expected "
            "share, with the band in which it stays if the data come from the mixture.",
            "Black: the share of the rows below each quantile of the mixture, minus the expected "
            "share. It should stay in the grey band, as it does for 95% of data sets from the "
            "mixture. Where it rises there are too many rows; where it falls, too few."
            + (" The last panel orders rows by their density, the lowest on the left." * several),
        )
    if loo is not None and len(bad_rows(fit, loo())):
        yield Picture(
            "How much single rows matter",
            lambda: plots.loo(fit, result=loo()),
            "The Pareto k of every row, with the limit above which leave-one-out cannot be "
            "trusted.",
            "Each dot is a row; its Pareto k says how much the posterior would change without it. "
            "Below the line, leave-one-out can be trusted. The fit depends strongly on a row above "
            "it: an outlier, or one of very few rows of a component.",
        )


def prior_pictures(fit: Fitted) -> Iterator[Picture]:
    """What the data added to the priors; nothing where no priors were used."""
    if not has_priors(fit):
        return
    drawn = "a line is the estimate" if fit.kind == "point" else "histograms of the draws"
    yield Picture(
        "Prior and posterior",
        lambda: plots.priors(fit),
        "For weights, means and scales the prior as a grey area, and the posterior of each of "
        f"{count(fit.model.n_components, 'component')} in its colour.",
        f"Grey, dashed: the prior. In colour: the posterior ({drawn}). All have the same height: "
        "compare where they lie and how wide they are. A posterior much narrower than its prior "
        "comes from the data. If it is as wide as its prior, the data say little about the "
        "parameter; if it is at the edge of the prior, the two disagree.",
    )
