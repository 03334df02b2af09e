"""The partition of least expected loss, by brute force; joined components, by every pair."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import pytest
from fitting import fit_quick
from made_fits import known_mixture, made_fit, rows_of
from scipy.special import xlogy
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score, v_measure_score

import stangmm as sg
from stangmm.judge import allocations
from stangmm.judge.partition import joint_partition
from stangmm.many.averaging import Stack
from stangmm.model.mixture import Mixture

EIGHT = np.array([-2.0, -1.4, -0.9, -0.1, 0.3, 1.0, 1.7, 2.2])[:, np.newaxis]


def two_bumps(apart: float, weights: tuple[float, ...] = (0.5, 0.5)) -> Mixture:
    k = len(weights)
    means = apart * (np.arange(k) - (k - 1) / 2)[:, np.newaxis]
    return Mixture(np.array(weights), means, np.ones((k, 1)), np.ones((k, 1, 1)))


def overlapping(n: int = 60, draws: int = 25, seed: int = 3) -> sg.Fit:
    mixture = two_bumps(2.5, (0.4, 0.3, 0.3))
    return made_fit("mcmc", mixture, rows_of(mixture, n, seed), ["x"], draws=draws)


def responsibilities(fit: sg.Fit) -> np.ndarray:
    """Of each draw, shape (S, K, N), known components respected."""
    return fit.mixture.responsibilities(fit.dataset.x, fit.dataset.labels)


def set_partitions(n: int) -> Iterator[tuple[int, ...]]:
    """Every partition of n rows, numbered as clusters come."""
    for labels in product(*[range(i + 1) for i in range(n)]):
        highest = -1
        for label in labels:
            if label > highest + 1:
                break
            highest = max(highest, label)
        else:
            yield labels


def mean_log_size(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean over rows of the log size of the group that both labels of a row make, (A, B)."""
    out = np.zeros((len(a), len(b)))
    for i in range(a.shape[1]):
        same = (a[:, [i]] == a)[:, np.newaxis] & (b[:, [i]] == b)
        out += np.log(same.sum(axis=-1))
    return out / a.shape[1]


def variation_of_information(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Between all labels (A, n) and (B, n): the mean log of sizes, shape (A, B)."""
    alone = np.zeros_like(a[:1])
    return mean_log_size(a, alone) + mean_log_size(alone, b) - 2.0 * mean_log_size(a, b)


# ---- the partition ---------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [1.0, 2.0, 3.0])
def test_no_partition_of_eight_rows_has_a_lower_expected_loss(apart: float) -> None:
    """Exactly: over all 4140 partitions, and all 2^8 allocations with their probabilities."""
    fit = made_fit("point", two_bumps(apart), EIGHT, ["x"])
    found = fit.partition()
    (r,) = responsibilities(fit)
    allocations = np.array(list(product(range(2), repeat=8)))
    probability = np.prod(r[allocations, np.arange(8)], axis=1)
    every = np.array(list(set_partitions(8)))
    assert len(every) == 4140
    exact = variation_of_information(every, allocations) @ probability
    own = variation_of_information(found.labels[np.newaxis], allocations)[0]
    expected = own @ probability
    # The same 500 draws stand for all allocations: the error is that of a difference of means.
    error = np.sqrt(probability @ (own - expected) ** 2 / found.n_draws)
    assert expected <= exact.min() + 3 * error
    assert expected < np.sort(exact)[40]
    assert found.expected_vi == pytest.approx(expected, abs=4 * error)
    inside = probability @ (own <= found.credible_radius + 1e-9)
    assert inside == pytest.approx(0.95, abs=0.05)


def test_the_similarity_is_the_mean_over_draws_of_sharing_a_component() -> None:
    fit = overlapping()
    found = fit.partition()
    r = responsibilities(fit)
    expected = np.einsum("ski,skj->ij", r, r) / len(r)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(found.similarity, expected, atol=1e-9)
    np.testing.assert_array_equal(found.searched, np.arange(60))
    for i in (0, 17, 59):
        mates = (found.labels == found.labels[i]) & (np.arange(60) != i)
        assert found.certainty[i] == pytest.approx(expected[i, mates].mean(), abs=1e-9)
    table = found.to_dataframe()
    assert (table["affinity"] <= 1).all()
    assert found.table["rows"].sum() == 60


def test_binders_loss_is_that_of_the_similarity_matrix() -> None:
    """The expected share of pairs that differ, from p_ij alone (Wade & Ghahramani 2018)."""
    found = overlapping().partition()
    together = found.labels[:, np.newaxis] == found.labels
    assert found.expected_binder == pytest.approx(
        np.abs(together - found.similarity).mean(), abs=0.01
    )


def test_the_distance_is_the_variation_of_information_of_scikit_learn() -> None:
    found = overlapping().partition()
    other = np.random.default_rng(1).choice(["a", "b", "c"], 60)
    own, shared = found.labels, mutual_info_score(found.labels, other)
    total = sum(entropy(np.unique(each, return_counts=True)[1]) for each in (own, other))
    assert found.distance(other) == pytest.approx(total - 2 * shared, abs=1e-12)
    assert v_measure_score(own, other) == pytest.approx(1 - found.distance(other) / total)
    assert found.distance(own + 7) == pytest.approx(0.0, abs=1e-12)


def test_labels_of_components_do_not_matter() -> None:
    fit = overlapping()
    one, other = fit.partition(), fit.relabel("means").reordered([2, 0, 1]).partition()
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.similarity, other.similarity, atol=1e-12)


@pytest.mark.parametrize(("apart", "expected"), [(0.0, 1), (1.0, 1), (6.0, 2)])
def test_components_that_overlap_are_one_cluster(apart: float, expected: int) -> None:
    mixture = two_bumps(apart)
    fit = made_fit("mcmc", mixture, rows_of(mixture, 80, 1), ["x"], draws=50)
    found = fit.partition()
    assert found.n_clusters == expected
    assert (found.certainty.mean() > 0.9) == (apart == 6.0)
    assert fit.partition() is found


def test_a_component_without_rows_is_no_cluster_and_k_1_is_one() -> None:
    mixture = two_bumps(8.0, (0.5, 0.5 - 1e-9, 1e-9))
    x = rows_of(mixture, 60, 2)
    assert made_fit("point", mixture, x, ["x"]).partition().n_clusters == 2
    alone = made_fit("point", two_bumps(0.0, (1.0,)), x, ["x"]).partition()
    assert alone.n_clusters == 1
    np.testing.assert_allclose(alone.certainty, 1.0)
    assert alone.expected_vi == 0.0
    assert alone.to_dataframe()["nearest"].isna().all()
    assert "60 rows in 1 cluster;" in str(alone)


def test_known_labels_and_sample_weights_are_respected() -> None:
    mixture = two_bumps(2.0)
    x = rows_of(mixture, 40, 4)
    labels = np.full(40, -1)
    labels[:20] = np.arange(20) % 2  # not as the rows lie
    fit = fit_quick(sg.GaussianMixture(2), x, "em", labels=labels)
    similarity = fit.partition().similarity[:20, :20]
    np.testing.assert_array_equal(similarity, labels[:20, np.newaxis] == labels[:20])
    count = np.repeat([1.0, 2.0, 0.0, 1.0], 10)
    weighted = fit_quick(sg.GaussianMixture(2), x, "em", sample_weight=count)
    found = weighted.partition()
    np.testing.assert_array_equal(found.searched, np.flatnonzero(count))
    rows = found.labels[20:30]  # of weight zero: they join as the others of their component
    assert (rows == weighted.predict(x)[20:30]).mean() > 0.8 or found.n_clusters == 1


def test_of_many_rows_some_are_searched_and_all_are_assigned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mixture = two_bumps(9.0, (0.5, 0.49, 0.01))
    x = rows_of(mixture, 1500, 5)
    fit = made_fit("mcmc", mixture, x, ["x"], draws=20)
    whole = fit.partition()
    monkeypatch.setattr(allocations, "SEARCHED", 90)
    some = joint_partition([(fit, 1.0)])
    assert len(some.searched) < 90
    assert some.similarity.shape == (len(some.searched),) * 2
    assert some.n_clusters == 3  # the rare component is among them
    np.testing.assert_array_equal(some.labels, whole.labels)
    np.testing.assert_allclose(some.certainty, whole.certainty, atol=0.03)
    assert f"by {len(some.searched)} of them" in str(some)


def test_rows_that_miss_values_are_assigned_by_what_they_have() -> None:
    x = sg.datasets.faithful().to_numpy(dtype=float)
    whole = fit_quick(sg.GaussianMixture(2), x, "em").partition()
    x[::3, 0] = np.nan
    found = fit_quick(sg.GaussianMixture(2), x, "em", missing="marginalize").partition()
    assert found.distance(whole.labels) < 0.15
    assert found.certainty[::3].mean() < found.certainty[1::3].mean()


def test_a_stack_has_the_average_similarity_of_its_fits() -> None:
    import pandas as pd

    x = rows_of(two_bumps(3.0), 50, 6)
    fits = {
        2: made_fit("mcmc", two_bumps(3.0), x, ["x"], draws=30),
        3: made_fit("mcmc", two_bumps(2.0, (0.3, 0.4, 0.3)), x, ["x"], draws=30),
        4: made_fit("mcmc", known_mixture(4, 1, None, 1), x, ["x"], draws=30),
    }
    found = Stack(fits, pd.Series([0.7, 0.3, 0.0], index=[2, 3, 4]), 0.0, 0.0).partition()
    both = [fits[k].partition().similarity for k in (2, 3)]
    # As many draws of each as its weight has it, evenly spaced.
    np.testing.assert_allclose(found.similarity, 0.7 * both[0] + 0.3 * both[1], atol=0.02)
    assert found.n_clusters >= 1


def test_a_partition_is_compared_with_one_label_a_row() -> None:
    with pytest.raises(sg.DataError, match=r"shape \(60,\), got shape \(3,\)"):
        overlapping().partition().distance([1, 2, 3])


# ---- joined components -----------------------------------------------------------------------


def entropy_of(t: np.ndarray) -> float:
    return float(-xlogy(t, t).sum())


def test_each_step_joins_the_pair_that_leaves_the_least_entropy() -> None:
    mixture = known_mixture(5, 2, None, seed=4)
    fit = made_fit("mcmc", mixture, rows_of(mixture, 200, 7), ["a", "b"], draws=20)
    path = fit.merge_path()
    t = fit.predict_proba(fit.dataset.x)
    np.testing.assert_allclose(path.probabilities, t, atol=1e-9)
    assert path.entropy[-1] == pytest.approx(entropy_of(t))
    for m in range(4, 0, -1):
        before = path.clusters[m]
        sums = {c: t[:, list(c)].sum(axis=1) for c in before}
        left = {}
        for pair in combinations(before, 2):
            kept = [sums[c] for c in before if c not in pair]
            left[frozenset(pair)] = entropy_of(np.stack([*kept, sums[pair[0]] + sums[pair[1]]]))
        best = min(left, key=lambda pair: left[pair])
        assert set(path.joined(m)) == set(best)
        assert path.entropy[m - 1] == pytest.approx(left[best], abs=1e-9)
    assert path.clusters[0] == ((0, 1, 2, 3, 4),)
    np.testing.assert_array_equal(path.labels(5), t.argmax(axis=1))
    np.testing.assert_array_equal(path.labels(1), 0)


def test_a_skewed_cluster_of_two_components_is_joined_first_and_the_elbow_shows_it() -> None:
    """As in the examples of Baudry et al. 2010: a cross of two components in one cluster."""
    means = np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    scales = np.array([[1.5, 0.3], [0.3, 1.5], [1.0, 1.0], [1.0, 1.0]])
    corr = np.tile(np.eye(2), (4, 1, 1))
    mixture = Mixture(np.full(4, 0.25), means, scales, corr)
    fit = made_fit("point", mixture, rows_of(mixture, 400, 8), ["a", "b"])
    path = fit.merge_path()
    assert path.joined(3) == ((0,), (1,))
    assert path.elbow == 3
    assert "elbow at 3 clusters" in str(path)
    assert path.table.loc[3, "joined"] == "0 with 1"
    assert path.table.loc[3, "decrease"] == pytest.approx(path.entropy[3] - path.entropy[2])
    assert fit.partition().n_clusters >= 3


def test_three_components_have_no_elbow_and_numbers_beyond_k_are_refused() -> None:
    path = overlapping().merge_path()
    assert path.elbow is None
    with pytest.raises(sg.ModelError, match="n_clusters must be at most 3"):
        path.labels(4)
    with pytest.raises(sg.ModelError, match="n_clusters must be at most 2"):
        path.joined(3)


def test_a_row_of_weight_w_counts_w_times_in_the_entropy() -> None:
    x, count = rows_of(two_bumps(2.5), 30, 9), np.tile([1, 3], 15)
    weighted = fit_quick(sg.GaussianMixture(2, "tied"), x, "em", sample_weight=count)
    path = weighted.merge_path()
    t = weighted.predict_proba(np.repeat(x, count, axis=0))
    assert path.entropy[1] == pytest.approx(entropy_of(t))
    assert path.entropy[0] == pytest.approx(0.0, abs=1e-9)
