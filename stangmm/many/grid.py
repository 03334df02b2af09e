"""Grid: what was made of each candidate so far, and which of it is to be made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stangmm.base.errors import InferenceError, ModelError
from stangmm.data.dataset import Dataset
from stangmm.fit import Fit
from stangmm.judge.candidates import Candidate, components_of, in_order, named, type_of
from stangmm.judge.criteria import Criterion, Score
from stangmm.many.choice import Selection
from stangmm.many.mending import left_out_because, spike_words

_NEGLIGIBLE = float(np.log(100.0))  # nats below the best: a hundredth of its posterior probability


@dataclass(frozen=True, eq=False)
class Grid:
    """Fits by candidate, as they are made; it asks for those to be made again."""

    rule: Criterion
    dataset: Dataset
    seed: int
    made: dict[Candidate, Fit | str] = field(default_factory=dict)
    tried: set[Candidate] = field(default_factory=set)  # again
    mended: dict[Candidate, str] = field(default_factory=dict)
    scores: dict[Candidate, Score | str] = field(default_factory=dict)

    def replace(self, k: Candidate, outcome: Fit | str, how: str) -> None:
        """Take a second run instead of the first, if it came to an end."""
        self.mended[k] = how
        if isinstance(outcome, Fit):
            self.made[k] = outcome
            self.scores.pop(k, None)

    def wanted(self) -> dict[Candidate, Fit]:
        """Fits that failed, were not made again, and could change the answer if they had not.

        The answer is the choice and, of evidences, the posterior over models.
        """
        fits = self._fits()
        open_fits = {k: fit for k, fit in fits.items() if self._failed(fit) and k not in self.tried}
        passed = [k for k, fit in fits.items() if not self._failed(fit)]
        by_all = self._chosen([*passed, *open_fits])
        if by_all is None:
            return open_fits
        by_passed = self._chosen(passed)
        matter = {k for k in open_fits if self._weighs(k, by_all)}
        if by_passed is None or by_passed.chosen != by_all.chosen:
            matter |= {by_all.chosen, by_all.best_value} & set(open_fits)
        return {k: fit for k, fit in open_fits.items() if k in matter}

    def selection(self) -> Selection:
        """Choose among the fits that passed, and say why the others cannot be chosen."""
        fits = self._fits()
        failures = {k: made for k, made in self.made.items() if isinstance(made, str)}
        for k, fit in fits.items():
            score = self._score(k)
            if reason := left_out_because(fit):
                failures[k] = reason
                if k not in self.tried:
                    failures[k] += " It was not run again, since that would not change the choice."
            elif isinstance(score, str):
                failures[k] = score
        scored = [k for k in fits if k not in failures]
        able = self._without_spikes(scored)
        for k in set(scored) - set(able):
            failures[k] = spike_words(fits[k], self.rule.label)
        if not able:
            reasons = "\n".join(f"{named(k)}: {failures[k]}" for k in in_order(failures))
            raise InferenceError(f"No model can be chosen.\n{reasons}", partial=fits)
        return replace(
            self._over(able),
            failures=failures,
            left_out={k: fit for k, fit in fits.items() if k not in able},
            mended=self.mended,
        )

    def _fits(self) -> dict[Candidate, Fit]:
        made = {k: self.made[k] for k in in_order(self.made)}
        return {k: fit for k, fit in made.items() if isinstance(fit, Fit)}

    def _weighs(self, k: Candidate, among: Selection) -> bool:
        """Whether a model has a part in the posterior over models."""
        return (
            self.rule.name == "evidence"
            and k in among.scores
            and -among.difference(k)[0] < _NEGLIGIBLE
        )

    def _failed(self, fit: Fit) -> bool:
        return bool(left_out_because(fit))

    def _score(self, k: Candidate) -> Score | str:
        """What the criterion says of a fit, or why it says nothing."""
        if k not in self.scores:
            fits = self._fits()
            others = {
                components_of(i): fit
                for i, fit in fits.items()
                if type_of(i) == type_of(k) and (i == k or not self._failed(fit))
            }
            try:
                score = self.rule.score(fits[k], others)
            except (InferenceError, ModelError) as error:
                self.scores[k] = str(error)
            else:
                finite = bool(np.isfinite(score.value))
                none = f"Its {self.rule.label} is {score.value}, not a finite number."
                self.scores[k] = score if finite else none
        return self.scores[k]

    def _chosen(self, candidates: Sequence[Candidate]) -> Selection | None:
        """Choose among some that have a score; None where there is none."""
        scored = [k for k in candidates if isinstance(self._score(k), Score)]
        return self._over(self._without_spikes(scored)) if scored else None

    def _without_spikes(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Those of which no component is a spike of the density, as long as there are such."""
        fits = self._fits()
        return [k for k in candidates if not spike_words(fits[k], self.rule.label)] or candidates

    def _over(self, candidates: Sequence[Candidate]) -> Selection:
        fits = self._fits()
        scores = {
            k: score for k in in_order(candidates) if isinstance(score := self._score(k), Score)
        }
        own = {k: fits[k] for k in scores}
        return Selection(self.rule.name, self.dataset, own, scores, {}, self.seed)
