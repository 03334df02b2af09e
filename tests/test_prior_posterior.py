"""How much narrower than its prior the posterior is, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from fitting import fit_quick

import stangmm as sg
from stangmm.judge.prior_posterior import prior_posterior


@pytest.mark.parametrize("n", [200, 800])
def test_it_is_the_ratio_of_the_closed_form(n: int) -> None:
    """One normal, whose sd so many rows show: the mean's posterior is normal, of known precision.

    The mean's prior is narrow, so that the mean is what the data say least of.
    """
    sd, width = 2.0, 0.3
    x = np.random.default_rng(3).normal(1.0, sd, n)
    priors = sg.Priors(means=sg.Normal(1.0, width), scales=sg.HalfNormal(5.0))
    found = prior_posterior(fit_quick(sg.GaussianMixture(1, priors=priors), x, sg.Laplace()))
    assert found.narrower == pytest.approx(np.sqrt(1.0 + n * (width / sd) ** 2), rel=0.1)
    assert not found.apart


def test_the_least_narrowed_parameter_counts() -> None:
    x = sg.datasets.galaxies()
    few, many = (
        prior_posterior(fit_quick(sg.GaussianMixture(k, "diag"), x, sg.Laplace())).narrower
        for k in (6, 2)
    )
    assert few < 2.0 < many


def test_a_posterior_outside_its_prior_is_apart() -> None:
    x = sg.datasets.faithful()
    far = sg.GaussianMixture(2, priors=sg.Priors(means=sg.Normal(0.0, 1.0)))
    assert prior_posterior(fit_quick(far, x, sg.Laplace())).apart
    assert not prior_posterior(fit_quick(sg.GaussianMixture(2), x, sg.Laplace())).apart
