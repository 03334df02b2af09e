"""Old Faithful in a scikit-learn pipeline: how many components, and then the posterior."""

import warnings

from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stangmm as sg
from stangmm.sklearn import StanGaussianMixture

# A component too many may find no maximum in some fold; the estimator regularizes and says so.
warnings.simplefilter("ignore", sg.ConvergenceWarning)


def main() -> None:
    faithful = sg.datasets.faithful()
    quick = sg.EM(restarts=30)  # in a search over a grid, where each fit counts little
    pipeline = make_pipeline(
        StandardScaler(), StanGaussianMixture(covariance_type="tied", method=quick, random_state=1)
    )
    pipeline.set_output(transform="pandas")  # the names of the features go through to the fit
    search = GridSearchCV(
        pipeline,
        {"stangaussianmixture__n_components": range(1, 5)},
        cv=KFold(3, shuffle=True, random_state=0),
    )
    search.fit(faithful)
    results = search.cv_results_
    print("mean log density of rows left out:")
    for k, mean, sd in zip(
        range(1, 5), results["mean_test_score"], results["std_test_score"], strict=True
    ):
        print(f"K = {k}: {mean:.4f} (sd over folds {sd:.4f})")

    best = search.best_estimator_
    labels = best.predict(faithful)
    print(f"\nbest: {best[-1]}, BIC {best[-1].bic(best[0].transform(faithful)):.1f}")
    print(faithful.groupby(labels).agg(["mean", "count"]))

    # The same pipeline with another method: the posterior, with all that a Fit can tell.
    bayesian = best.set_params(stangaussianmixture__method="nuts").fit(faithful)
    print()
    print(bayesian[-1].fit_.summary().round(3).to_string())


if __name__ == "__main__":
    main()
