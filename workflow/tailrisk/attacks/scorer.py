"""The scores of every attack for the target models of one fold, from what is computed once for all models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks import rmia
from tailrisk.attacks.attack_r import attack_r_scores
from tailrisk.attacks.lira import LIRA, Moments, lira_scores
from tailrisk.attacks.references import Fold, Values
from tailrisk.attacks.roc import Scores, roc

ATTACKS = (*LIRA, "attack_r", "loss", "rmia_online", "rmia_offline")

LogLikelihood = Callable[[int], NDArray[np.float32]]
"""From the number of a target model to the log-probability of the true label of all records [N] under it."""


@dataclass(frozen=True)
class Losses:
    """Log-likelihoods of one model [N], and of what a fold leaves out."""

    of_model: LogLikelihood
    of_fold: Callable[[Fold], Values]


@dataclass(frozen=True)
class References:
    """Of the confidences of all models: moments for LiRA and ranks [M, N] for attack-R."""

    moments: Moments
    ranks: NDArray[np.int16]

    def scores(self, fold: Fold, values: Values) -> Iterator[tuple[str, int, Scores]]:
        """(attack, target, scores) of LiRA and attack-R."""
        for attack, of_attack in lira_scores(fold, values, self.moments).items():
            for target, row in zip(fold.targets, of_attack, strict=True):
                yield attack, target, Scores(row)
        steps = int((self.moments.count - fold.gone())[1].min())
        of_ranks = attack_r_scores(fold, values, self.ranks, self.moments.count)
        for target, row in zip(fold.targets, of_ranks, strict=True):
            yield "attack_r", target, Scores(row, steps=steps)


@dataclass(frozen=True)
class Population:
    """Of the probabilities of all models: their sums [2, N] over IN and OUT models, the number of these, [2, N] or
    [2, 1], the population records of RMIA [Z] and its γ."""

    total: NDArray[np.float64]
    count: NDArray[np.float64]
    records: NDArray[np.intp]
    gamma: float

    def scores(self, fold: Fold, values: Values, blends: Sequence[rmia.Blend]) -> Iterator[list[Scores]]:
        """RMIA scores of every target of the fold, by each blend."""
        for of_blend in rmia.ratios(fold, values, self.total, self.count, blends):
            yield [Scores(row, rmia.levels(row[self.records], self.gamma), self.records.size) for row in of_blend]

    def best_a(self, chosen_on: list[tuple[Fold, Values]], member: NDArray[np.bool_]) -> float:
        """The offline correction with the best mean AUC on the targets of some folds, the smallest among equals."""
        auc = np.zeros(len(rmia.OFFLINE_A))
        blends = [rmia.offline(a) for a in rmia.OFFLINE_A]
        for fold, values in chosen_on:
            for i, of_targets in enumerate(self.scores(fold, values, blends)):
                auc[i] += sum(roc(one, member[t]).auc for t, one in zip(fold.targets, of_targets, strict=True))
        return rmia.OFFLINE_A[int(auc.argmax())]


@dataclass(frozen=True)
class Scorer:
    """Scores of the available attacks, a pure function of the fold.

    confidences: what a fold leaves out; losses: None where the table has none; references and population: None where
    the attacks that need them are not available; a: of offline RMIA by the first target of a fold, empty likewise.
    """

    confidences: Callable[[Fold], Values]
    losses: Losses | None
    references: References | None
    population: Population | None
    a: dict[int, float]

    def scores(self, fold: Fold) -> Iterator[tuple[str, int, Scores]]:
        """(attack, target, scores) of every available attack and target of the fold."""
        if self.references is not None:
            yield from self.references.scores(fold, self.confidences(fold))
        if self.losses is None:
            return
        values = self.losses.of_fold(fold)
        for target, row in zip(fold.targets, values, strict=False):
            yield "loss", target, Scores(row)
        if self.population is not None:
            blends: dict[str, rmia.Blend] = {"rmia_online": rmia.online}
            if self.a:
                blends["rmia_offline"] = rmia.offline(self.a[fold.targets[0]])
            of_rmia = self.population.scores(fold, values, list(blends.values()))
            for attack, of_targets in zip(blends, of_rmia, strict=True):
                for target, scores in zip(fold.targets, of_targets, strict=True):
                    yield attack, target, scores
