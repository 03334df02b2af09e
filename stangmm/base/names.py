"""Names that users of scikit-learn and R type, and what the things are called here."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

_HERE = {
    "random_state": "fit(X, seed=...)",
    "n_init": "fit(X, method=EM(restarts=...))",
    "max_iter": "EM(max_iterations=...)",
    "tol": "EM(tolerance=...)",
    "reg_covar": "Priors(scales=...), or nothing: components cannot be narrower than the rounding",
    "init_params": "fit(X, init=...): means, labels or a fit",
    "means_init": "fit(X, init=...)",
    "weights_init": "fit(X, init=...)",
    "precisions_init": "fit(X, init=...)",
    "warm_start": "fit(X, init=...)",
    "verbose": "progress",
    "n_jobs": "parallel_chains of NUTS, jobs of select_components, joblib.parallel_config",
    "iter_warmup": "warmup",
    "iter_sampling": "draws",
    "n_draws": "draws",
    "max_treedepth": "max_tree_depth",
    "modelNames": "covariance_type",
    "covariance_types": "covariance_type, which may be a list",
    "G": "n_components",
    "k": "n_components",
    "weights_": "fit.weights",
    "means_": "fit.means",
    "covariances_": "fit.covariances",
    "precisions_": "np.linalg.inv(fit.covariances)",
    "labels_": "fit.predict(X)",
    "converged_": "fit.diagnose()",
    "n_iter_": "fit.info",
    "lower_bound_": "fit.total_log_likelihood",
    "fit_predict": "model.fit(X).predict(X)",
    "score_samples": "fit.log_density(X)",
    "fit_transform": "model.fit(X).predict_proba(X)",
    "transform": "fit.predict_proba(X)",
    "predict": "model.fit(X).predict(X)",
    "predict_proba": "model.fit(X).predict_proba(X)",
    "sample": "model.fit(X).sample(n)",
    "score": "model.fit(X).score(X)",
    "bic": "model.fit(X).bic()",
    "aic": "model.fit(X).aic()",
}


def hint(name: str) -> str:
    """What a thing is called here; empty where the name says nothing."""
    if name not in _HERE:
        return ""
    return f" Here it is {_HERE[name]}; stangmm.sklearn has scikit-learn's names."


def made_by_names(cls: type[T], advice: str = "") -> type[T]:
    """Have a class say what its arguments are called where another name comes."""
    made: Callable[..., None] = cls.__init__
    known = [name for name in inspect.signature(made).parameters if name != "self"]

    @functools.wraps(made)
    def checked(self: T, *arguments: Any, **options: Any) -> None:
        check_names(cls.__name__, options, known, advice)
        made(self, *arguments, **options)

    cls.__init__ = cast(Any, checked)  # type: ignore[method-assign]
    return cls


def check_names(what: str, given: Iterable[str], known: Iterable[str], advice: str = "") -> None:
    """Raise TypeError for an argument that there is not, with what it is called here."""
    for name in given:
        if name not in known:
            raise TypeError(
                f"{what} has no argument {name!r}; there are {list(known)}.{advice or hint(name)}"
            )


def checks_names(function: Callable[P, T]) -> Callable[P, T]:
    """Have a function say what its arguments are called where another name comes."""
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @functools.wraps(function)
    def checked(*arguments: P.args, **options: P.kwargs) -> T:
        check_names(f"{function.__name__}()", options, known)
        return function(*arguments, **options)

    return checked
