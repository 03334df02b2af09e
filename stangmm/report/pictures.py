"""Which pictures the reports show, with what they mean and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stangmm import plots
from stangmm.draws import McmcInfo, RestartInfo, VariationalInfo
from stangmm.report.numbers import count
from stangmm.report.words import listed, method_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stangmm.comparison import Comparison
    from stangmm.fit import Fit


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


def density_picture(fit: Fit, title: str = "The mixture and the data") -> Picture:
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
            "Each row has the colour of its likeliest component, paler where that is uncertain. "
            "Ellipses hold 50% and 95% of a component; grey shades 50%, 80% and 95% of the "
            "mixture."
        )
        if draws:
            caption += " Thin ellipses are single draws: how far they scatter is the uncertainty."
    return Picture(title, lambda: plots.density(fit), alt, caption)


def components_picture(fit: Fit) -> Picture:
    """The components apart."""
    return Picture(
        f"The components, by {method_words(fit.method)}",
        lambda: plots.components(fit),
        f"The {count(fit.model.n_components, 'component')} apart, each labelled with its weight.",
        "Each component alone, at its weight: the number is the share of the data that it holds. "
        "Rows have the colour of their likeliest component.",
    )


def run_pictures(fit: Fit) -> Iterator[Picture]:
    """Pictures of what the method did, by what it is."""
    info = fit.info
    if isinstance(info, McmcInfo):
        chains, draws = fit.lp.shape
        yield Picture(
            "The chains",
            lambda: plots.trace(fit),
            f"Traces of {chains} chains of {draws:,} draws for weights, means, scales and the log "
            "joint density, with the density that each chain gives beside them.",
            "Each chain should look like the next: the same level, the same width, no drift. At "
            "the right the chains' densities should lie on each other.",
        )
    elif isinstance(info, VariationalInfo):
        if len(info.elbo):
            yield Picture(
                "The evidence lower bound",
                lambda: plots.elbo(fit),
                f"The ELBO over {info.elbo_iterations[-1]:,.0f} iterations; it "
                f"{'converged' if info.converged else 'did not converge'}.",
                "The bound that the approximation raises. It should have levelled off; the "
                "remaining jumps are Monte Carlo noise of the estimate. A flat end says that the "
                "approximation is as good as its family allows, not that it is good: the k-hat "
                "check says that.",
            )
    else:
        yield components_picture(fit)
        collapsed = int(info.collapsed.sum())
        yield Picture(
            "The restarts",
            lambda: plots.em_path(fit),
            f"The {info.objective} of {len(info.values)} restarts; {info.best.restarts} reached "
            f"the best optimum and {collapsed} collapsed.",
            f"Every start climbs to an optimum; {len(info.optima)} distinct ones were found. The "
            "more starts reach the best one, the safer it is that none better exists. A collapsed "
            "restart has a component on a few rows; its likelihood has no meaning.",
        )


def overview_pictures(comparison: Comparison) -> Iterator[Picture]:
    """All methods beside each other; nothing when every method failed."""
    if not comparison.fits:
        return
    many = count(len(comparison.fits), "method")
    one = comparison.dataset.n_features == 1
    band = ", the reference's with its 90% band" if comparison.reference else ""
    yield Picture(
        "The densities",
        lambda: plots.densities(comparison),
        f"The data with the mixture densities by {many}"
        + (f", in one picture{band}." if one else ", a panel for each."),
        "Where the lines leave the reference's band, a method says something else about the data "
        "than the posterior does."
        if one
        else "The same data and the same model in each panel: ellipses hold 50% and 95% of a "
        "component, thin ones are single draws.",
    )
    yield Picture(
        "The estimates",
        lambda: plots.estimates(comparison),
        f"Weights, means and scales of each component by {many}, with 90% intervals.",
        "Each component in its row, each method with its marker. Lines are 90% intervals; point "
        "estimates have none.",
    )


def parts_pictures(comparison: Comparison) -> Iterator[Picture]:
    """What each method did, in the order of the fits; each kind of picture once."""
    seen: set[type] = set()
    for label, fit in comparison.fits.items():
        if type(fit.info) in seen:
            continue
        seen.add(type(fit.info))
        words = {
            RestartInfo: f"The data with the mixture density, by {label}",
            VariationalInfo: f"The variational density, by {label}",
            McmcInfo: f"The density with its uncertainty band, by {label}",
        }
        density = density_picture(fit, words[type(fit.info)])
        if isinstance(fit.info, RestartInfo):
            yield density
            yield from run_pictures(fit)
        else:
            yield from run_pictures(fit)
            yield density
