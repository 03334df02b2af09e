"""Rows against one mixture: smooth tests of how well it describes them, the estimation allowed for.

Neyman's smooth test (1937): a feature whose values come from the mixture has a uniform probability
integral transform, so that the averages of orthonormal Legendre polynomials of it are near zero.
The same is asked of the log density's, and of the moments within components that a covariance
structure leaves out. A fit has seen the data, which brings averages nearer to zero: what they have
in common with the scores of the parameters is taken off averages and covariances alike (Neyman's
C(alpha); Thas 2010, doi:10.1007/978-0-387-92710-7), so that any good estimate will do, a
posterior's centre included. Covariances are those of rows that the mixture itself gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre
from scipy.special import chdtrc, ndtr

from stangmm.base.arrays import FloatArray, IntArray
from stangmm.data.groups import group_rows
from stangmm.judge.beside import SEED, SIMULATED, Beside, Rows, Seen
from stangmm.model.mixture import Mixture
from stangmm.model.parameters import ParameterSpace

# Legendre polynomials of a feature's and of the log density's transform.
_FEATURE_ORDER, _DENSITY_ORDER = 5, 4
_NOT_SHOWN = 1e-9  # mean square of a score; its standard deviation is of the order of one
# With more scores than this, a feature's average is freed from those of the feature alone.
_MOST_SCORES = 400
# Directions of less variance, as a share of the largest or of what it was, are left out.
_SINGULAR, _NOTHING_LEFT = 1e-5, 0.02
_SAME_DENSITY = 1e-9  # log densities of one value, computed twice, differ by less
_MOST_GROUPS = 30  # of rows that miss the same values, for the log density
# A component whose moments are asked for holds so many rows, and so many simulated ones.
_FEWEST_ROWS, _FEWEST_SIMULATED = 10.0, 200.0
_PAIRS = 64  # of products of one component that are looked at closely


@dataclass(frozen=True, eq=False)
class Test:
    """One thing that was asked of the rows.

    Attributes
    ----------
    kind : {"feature", "density", "correlation", "scale"}
    p : float
        How probable so much is if the rows are from the mixture.
    nats : float
        How much the log likelihood of a row could grow in this direction, on average.
    features : tuple of int
        Of "feature" the one, of the moments those in which the rows differ most; else none.
    component : int
        Of the moments; -1 otherwise.
    average : float
        Of the moments: the correlation, or the ratio of variances, that the rows show.
    """

    kind: str
    p: float
    nats: float
    features: tuple[int, ...] = ()
    component: int = -1
    average: float = 0.0


class SmoothTests(Beside):
    """What is asked of the rows beside a mixture; parameters as of `Beside`."""

    def _scores(self, seen: Seen) -> tuple[FloatArray, IntArray]:
        """What spans the rows' scores, shape (N, P), and the feature that each is of, (P,).

        Scores of a mean and a covariance in the component's own scales: their products with the
        covariance, which are deviations and products of deviations. -1: of all features; -2: of
        two.
        """
        r, t = seen.responsibility, seen.deviation
        k, d = t.shape[1:]
        unknown = (seen.rows.labels < 0)[:, np.newaxis]
        free = self.mixture.n_weights - 1
        parts = [(unknown * (r - self.mixture.weights))[:, :free]]
        tags = [np.full(free, -1)]

        def collect(each: FloatArray, of: IntArray, pooled: bool) -> None:
            """Weigh (N, K, C) by responsibilities."""
            each = r[..., np.newaxis] * each
            each = each.sum(axis=1) if pooled else each[:, ~self.narrow].reshape(len(r), -1)
            parts.append(each)
            tags.append(np.tile(of, each.shape[1] // len(of)))

        parts.append((r[..., np.newaxis] * t).reshape(len(r), -1))
        tags.append(np.tile(np.arange(d), k))
        pooled = self.structure.pooled
        if pooled and self.narrow.any():
            return np.concatenate(parts, axis=1), np.concatenate(tags)
        turned, of_squares, of_pairs = t, seen.second, seen.second
        space = ParameterSpace(k, d, self.structure)
        common = space.n_correlations < k
        if self.mixture.corr_chol is not None and common and not pooled:
            # Scales of their own beside one correlation matrix: its inverse takes part.
            factor = np.linalg.inv(self.mixture.corr_chol[0])
            inverse = factor.T @ factor
            turned, of_squares = t @ inverse, seen.second @ inverse
            of_pairs = inverse @ of_squares
        squares = t * turned - np.einsum("gkii->gki", of_squares)[seen.group]
        if self.structure.one_scale:
            collect(squares.sum(axis=-1, keepdims=True), np.array([-1]), pooled)
            return np.concatenate(parts, axis=1), np.concatenate(tags)
        collect(squares, np.arange(d), pooled)
        pairs = space.n_pairs * space.n_correlations
        if pairs and sum(part.shape[1] for part in parts) + pairs <= _MOST_SCORES:
            i, j = np.tril_indices(d, -1)
            collect(
                turned[..., i] * turned[..., j] - of_pairs[..., i, j][seen.group],
                np.full(len(i), -2),
                common,
            )
        else:
            of_all = seen.distance - seen.observed[:, np.newaxis]
            collect(of_all[..., np.newaxis], np.array([-1]), pooled)
        return np.concatenate(parts, axis=1), np.concatenate(tags)

    @cached_property
    def _both_scores(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Mean of the data's scores (P,), scores of simulated rows (M, P), features (P,)."""
        simulated, of = self._scores(self.simulated)
        data, _ = self._scores(self.data)
        size = (simulated**2).mean(axis=0)
        # Of a component that next to no simulated row is from, nothing is known of the scores.
        scale = np.where(size > _NOT_SHOWN, np.sqrt(size), np.inf)
        simulated /= scale
        mean = self.data.rows.weight @ data / (self.data.rows.total * scale)
        return mean, simulated, of

    @cached_property
    def _white(self) -> dict[int, tuple[FloatArray, FloatArray, FloatArray]]:
        return {}

    def _whitened(self, feature: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scores to free from, of unit variance: mean of the data, mean and values simulated."""
        mean, simulated, of = self._both_scores
        if len(of) > _MOST_SCORES:
            chosen = (of == -1) | (of == feature)
            mean, simulated = mean[chosen], simulated[:, chosen]
        else:
            feature = -1
        if feature not in self._white:
            values, vectors = np.linalg.eigh(simulated.T @ simulated / len(simulated))
            kept = values > _SINGULAR * values[-1]
            turn = vectors[:, kept] / np.sqrt(values[kept])
            white = simulated @ turn
            self._white[feature] = mean @ turn, white.mean(axis=0), white
        return self._white[feature]

    def _freed(
        self, data: FloatArray, simulated: FloatArray, feature: int, *, known_mean: bool
    ) -> tuple[FloatArray, FloatArray, float]:
        """Averages freed from the scores, simulated values freed from them, how many rows.

        Parameters
        ----------
        data, simulated : ndarray, shape (N, C) and (M, C)
            Functions of the rows.
        feature : int
            Of which they are; -1: of all.
        known_mean : bool
            Whether their mean is zero by their definition; if not, it is that of simulated rows.
        """
        score, drawn, white = self._whitened(feature)
        m, n = len(simulated), self.data.rows.total
        mean = simulated.mean(axis=0)
        centred = simulated - mean
        common = centred.T @ white / m
        average = self.data.rows.weight @ data / n - common @ score
        rest = (centred - white @ common.T) * np.sqrt(m / max(m - white.shape[1], 1))
        if known_mean:
            return average, rest, n
        return average - (mean - common @ drawn), rest, 1.0 / (1.0 / n + 1.0 / m)

    def _quadratic(self, kind: str, data: FloatArray, simulated: FloatArray, feature: int) -> Test:
        average, rest, n = self._freed(data, simulated, feature, known_mean=kind == "feature")
        spread = np.sqrt(np.maximum(simulated.var(axis=0), 1e-300))
        rest /= spread
        values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
        kept = values > _NOTHING_LEFT
        if not kept.any():
            return Test(kind, 1.0, 0.0)
        turned = vectors[:, kept].T @ (average / spread)
        q = n * float((turned**2 / values[kept]).sum())
        p = float(chdtrc(kept.sum(), q))
        nats = max(q - float(kept.sum()), 0.0) / (2.0 * n)
        return Test(kind, p, nats, (feature,) if kind == "feature" else ())

    def features(self) -> list[Test]:
        """Ask of each feature whether its values are those of the mixture's."""
        return [self._feature(d) for d in range(self.mixture.n_features)]

    def _feature(self, feature: int) -> Test:
        data, simulated = (_polynomials(*self.transform(seen.rows, feature)) for seen in self.both)
        return self._quadratic("feature", data, simulated, feature)

    def density(self) -> Test:
        """Ask whether the rows are as probable as rows of the mixture are."""
        data, simulated = (_legendre(self._ranks(seen.rows), _DENSITY_ORDER) for seen in self.both)
        for part in (data, simulated):
            part[np.isnan(part)] = 0.0
        return self._quadratic("density", data, simulated, -1)

    def largest_excess(self, levels: Sequence[float]) -> tuple[float, float]:
        """The level at which most rows are too many or too few, and the share of rows below it.

        A level is a share of the mixture's rows, those of the lowest density.
        """
        ranks = self._ranks(self.data.rows)
        asked = ~np.isnan(ranks)
        weight = self.data.rows.weight[asked]
        shares = [float(weight @ (ranks[asked] < level) / weight.sum()) for level in levels]
        at = int(np.argmax(np.round(np.abs(np.subtract(shares, levels)), 9)))
        return levels[at], shares[at]

    @cached_property
    def _references(self) -> dict[int, FloatArray]:
        """Rows of the mixture (-1), and of each component that rows are known to come from."""
        known = np.unique(self.data.rows.labels[self.data.rows.labels >= 0]).tolist()
        return {-1: self.drawn(self.components())} | {
            component: self.drawn(np.full(SIMULATED, component)) for component in known
        }

    def _ranks(self, rows: Rows) -> FloatArray:
        """Share of the mixture's rows that are less dense, by what a row misses; NaN: not asked."""
        out = np.full(len(rows.x), np.nan)
        order, groups = group_rows(rows.x, rows.labels)
        for group in sorted(groups, key=lambda one: one.rows.start - one.rows.stop)[:_MOST_GROUPS]:
            own, component = order[group.rows], -1
            part = self.mixture.marginal(group.observed)
            if group.component is not None:
                component = group.component
                part = _of_component(part, component)
            among = np.sort(part.log_density(self._references[component][:, group.observed]))
            density = part.log_density(rows.x[np.ix_(own, group.observed)])
            near = _SAME_DENSITY * (1.0 + np.abs(density))
            below, upto = (np.searchsorted(among, density + side * near) for side in (-1, 1))
            out[own] = (0.5 * (below + upto) + 0.5) / (len(among) + 1.0)
        return out

    def moments(self) -> list[Test]:
        """Ask for what the covariance structure leaves out: correlations, scales of their own."""
        k, d = self.mixture.means.shape
        structure = self.structure
        tests = []
        if d > 1 and ParameterSpace(k, d, structure).n_correlations < k:
            i, j = np.tril_indices(d, -1)
            tests.append(self._largest("correlation", i, j))
        if (structure.pooled and k > 1) or (d > 1 and structure.one_scale):
            tests.append(self._largest("scale", np.arange(d), np.arange(d)))
        return tests

    def _largest(self, kind: str, i: IntArray, j: IntArray) -> Test:
        """Test of the largest of many averages of products within components, one by one."""
        n = self.data.rows.total
        held = self.mixture.weights
        enough = (held * n >= _FEWEST_ROWS) & (held * SIMULATED >= _FEWEST_SIMULATED)
        asked = np.flatnonzero(enough & ~self.narrow)
        worst = Test(kind, 1.0, 0.0)
        for component in asked.tolist():
            of = self._far_from_zero(component, i, j)
            data, simulated = (self._products(s, component, i[of], j[of]) for s in self.both)
            average, rest, _ = self._freed(data, simulated, -1, known_mean=True)
            variance = (rest**2).mean(axis=0)
            free = variance > _NOTHING_LEFT * simulated.var(axis=0)
            # Of few simulated rows: those of all products together are known better.
            variance = np.maximum(variance, variance.mean())
            share = average / held[component]
            error = np.sqrt(np.where(free, variance, 1.0) / n) / held[component]
            z = share / error
            if kind == "scale":  # a ratio of variances (Wilson & Hilferty 1931)
                shrunk = error**2 / 9.0
                root = np.cbrt(np.maximum(1.0 + share, 0.0))
                z = (root - 1.0 + shrunk) / np.sqrt(shrunk)
            z = np.where(free, z, 0.0)
            at = int(np.argmax(np.abs(z)))
            p = min(1.0, float(2.0 * ndtr(-abs(z[at]))) * len(i) * len(asked))
            if p < worst.p:
                nats = max(float(z[at]) ** 2 - 1.0, 0.0) / (2.0 * n)
                pair = tuple({int(j[of][at]): None, int(i[of][at]): None})
                shown = float(share[at]) + (kind == "scale")
                worst = Test(kind, p, nats, pair, component, shown)
        return worst

    def _far_from_zero(self, component: int, i: IntArray, j: IntArray) -> IntArray:
        """Which products to look at more closely: of very many, those of the largest averages."""
        if len(i) <= _PAIRS:
            return np.arange(len(i))
        r, t = self.data.responsibility[:, component], self.data.deviation[:, component]
        weight = (self.data.rows.weight * r)[:, np.newaxis]
        expected = self.data.second[self.data.group[0], component]
        size = np.abs((t * weight).T @ t - weight.sum() * expected)[i, j]
        return np.sort(np.argsort(-size, kind="stable")[:_PAIRS])

    def _products(self, seen: Seen, component: int, i: IntArray, j: IntArray) -> FloatArray:
        t = seen.deviation[:, component]
        expected = seen.second[:, component][:, i, j][seen.group]
        products = t[:, i] * t[:, j] - expected
        if self.structure.one_scale and (i == j).all():
            products = products - products.mean(axis=1, keepdims=True)
        return np.asarray(seen.responsibility[:, component, np.newaxis] * products)

    def curves(
        self, features: Sequence[int], levels: FloatArray
    ) -> list[tuple[FloatArray, FloatArray]]:
        """How the transforms' distribution functions differ from a uniform one's.

        Parameters
        ----------
        features : sequence of int
            -1: of the log density.
        levels : ndarray, shape (G,)
            Between 0 and 1.

        Returns
        -------
        list of (difference, half), each ndarray of shape (G,)
            The difference, freed from the scores, and half the height of the band that holds the
            whole curve with probability 0.95 if the rows are from the mixture.
        """
        normal = np.random.default_rng(SEED).standard_normal((SIMULATED, len(levels)))
        return [self._curve(feature, levels, normal) for feature in features]

    def _curve(
        self, feature: int, levels: FloatArray, normal: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        if feature < 0:
            ranks = [self._ranks(seen.rows) for seen in self.both]
            ends = [(each, each) for each in ranks]
        else:
            ends = [self.cell(seen.rows, feature) for seen in self.both]
        data, simulated = (_share_below(below, above, levels) for below, above in ends)
        difference, rest, n = self._freed(data, simulated, feature, known_mean=feature >= 0)
        covariance = rest.T @ rest / len(rest)
        error = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        values, vectors = np.linalg.eigh(covariance / np.outer(error, error))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        height = float(np.quantile(np.abs(normal @ root.T).max(axis=1), 0.95))
        return difference, height * error / np.sqrt(n)


def _share_below(below: FloatArray, above: FloatArray, levels: FloatArray) -> FloatArray:
    """Share of what a value may have been that is below each level, less the level, (N, G)."""
    share = levels - below[:, np.newaxis]
    share /= np.maximum(above - below, 1e-12)[:, np.newaxis]
    np.clip(share, 0.0, 1.0, out=share)
    share -= levels
    share[np.isnan(below + above)] = 0.0
    return np.asarray(share)


def _of_component(mixture: Mixture, component: int) -> Mixture:
    """One component, as a mixture of which it is all."""
    chol = mixture.corr_chol
    one = slice(component, component + 1)
    return Mixture(
        np.ones(1), mixture.means[one], mixture.scales[one], None if chol is None else chol[one]
    )


def _polynomials(below: FloatArray, above: FloatArray) -> FloatArray:
    """Legendre polynomials of a feature's transform, shape (N, 5); zero where it is missing.

    Of a rounded value they are averages over the values that it may have been.
    """
    out = _legendre(0.5 * (below + above), _FEATURE_ORDER)
    wide = above - below > 1e-6
    if wide.any():
        ends = [_integrals(at[wide], _FEATURE_ORDER) for at in (below, above)]
        out[wide] = (ends[1] - ends[0]) / (above - below)[wide, np.newaxis]
    return np.where(np.isnan(out), 0.0, out)


def _legendre(u: FloatArray, order: int) -> FloatArray:
    """Orthonormal polynomials on the unit interval, the constant left out: (N,) to (N, order)."""
    degrees = np.arange(1, order + 1)
    return np.asarray(legendre.legvander(2 * u - 1, order)[:, 1:] * np.sqrt(2 * degrees + 1))


def _integrals(u: FloatArray, order: int) -> FloatArray:
    """Integrals of the same from 0 to u."""
    degrees = np.arange(1, order + 1)
    plain = legendre.legvander(2 * u - 1, order + 1)
    return np.asarray((plain[:, 2:] - plain[:, :-2]) / (2 * np.sqrt(2 * degrees + 1)))
