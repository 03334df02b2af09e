"""What a type checker must say of users' code: read by mypy in `test_public`, never run.

A comment that ignores an error is an error itself where there is none.
"""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
import pandas as pd

import stangmm as sg
from stangmm.base.arrays import FloatArray, IntArray

X = np.zeros((4, 2))
table = pd.DataFrame(X)
fit = sg.GaussianMixture(2, covariance_type="tied").fit(X, method="em")
fit = sg.GaussianMixture(2).fit(table, sg.NUTS(draws=500))

sg.GaussianMixture(2, covariance_type="ful")  # type: ignore[arg-type]
sg.GaussianMixture(2).fit(X, method="nutz")  # type: ignore[arg-type]
sg.select_components(X, covariance_type="ful")  # type: ignore[arg-type]
sg.select_components(X, covariance_type=["full", "ful"])  # type: ignore[list-item]
sg.select_components(X, covariance_type=["full", "EEE"]).fits["tied", 2].bic()
assert_type(sg.compare(sg.GaussianMixture(2), X), sg.Comparison)
assert_type(sg.compare([sg.GaussianMixture(2), fit], X), sg.ModelComparison)
sg.select_components(X, method="nutz")  # type: ignore[arg-type]

assert_type(fit.predict(X), IntArray)
assert_type(fit.predict([[1.0, 2.0]]), IntArray)
assert_type(fit.predict(table), "pd.Series[int]")
assert_type(fit.predict_proba(X), FloatArray)
assert_type(fit.predict_proba(table), pd.DataFrame)
assert_type(fit.predict_proba(X, interval=0.9).lower, Any)
assert_type(fit.log_density(X), FloatArray)
assert_type(fit.log_density(table), "pd.Series[float]")
