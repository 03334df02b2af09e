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
    """Six rows say less of their scale than 150 of theirs: by the root of their numbers, about."""
    rng = np.random.default_rng(4)
    large = np.concatenate([rng.normal(-20.0, 1.0, 150), rng.normal(20.0, 1.0, 150)])
    with_small = np.concatenate([large, rng.normal(0.0, 1.0, 6)])
    priors = sg.Priors(means=sg.Normal(0.0, 20.0), scales=sg.HalfNormal(2.0))
    few, many = (
        prior_posterior(fit_quick(sg.GaussianMixture(k, priors=priors), x, sg.Laplace())).narrower
        for k, x in ((3, with_small), (2, large))
    )
    assert few < many / 2.0
    assert many > 5.0


def test_a_posterior_outside_its_prior_is_apart() -> None:
    x = sg.datasets.faithful()
    far = sg.GaussianMixture(2, priors=sg.Priors(means=sg.Normal(0.0, 1.0)))
    assert prior_posterior(fit_quick(far, x, sg.Laplace())).apart
    assert not prior_posterior(fit_quick(sg.GaussianMixture(2), x, sg.Laplace())).apart
