"""Receiver operating characteristic of attack scores: rank AUC, TPR at low FPR, precision at realistic priors."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FPR_GRID: NDArray[np.float64] = np.logspace(-5, 0, 101)  # twenty points a decade
REPORTED_FPR = (0.1, 0.01, 0.001, 0.0001)
PRIORS = (0.01, 0.1, 0.5)
# Keeps 0.1 · 30 = 3.0000000000000004 and its like from gaining or losing one non-member.
_UP = 1 + 1e-12
_FEWEST_STEPS = 4  # of a stepped score within a rate: with fewer the places of the steps decide the TPR
_REPORTED = [int(np.argmin(np.abs(np.log(FPR_GRID / fpr)))) for fpr in REPORTED_FPR]


@dataclass(frozen=True)
class Roc:
    """Success of one attack on one target model.

    auc: rank AUC, ties half; tpr: at every FPR of FPR_GRID; non_members: their number; thresholds: the score that a
    record named at each FPR of REPORTED_FPR exceeds; steps: number of values the score can take above its lowest.
    """

    auc: float
    tpr: NDArray[np.float64]
    non_members: int
    thresholds: NDArray[np.float64]
    steps: int | None = None

    @property
    def finest_fpr(self) -> float:
        """The lowest FPR that the TPR means something at: one non-member, and four steps of a stepped score."""
        return 1 / (self.non_members if self.steps is None else min(self.non_members, self.steps / _FEWEST_STEPS))

    def resolves(self, fpr: float) -> bool:
        """Whether a reported FPR is not finer than that."""
        return fpr * _UP >= self.finest_fpr


@dataclass(frozen=True)
class Scores:
    """Scores of one attack for all records of one target model; higher means "member".

    values [N] float32, finite, compared to 23 significant bits; levels: None, or ascending [Z] where the score is the
    number of levels at or below the value; steps: as in Roc, None for a continuous score.
    """

    values: NDArray[np.float32]
    levels: NDArray[np.float32] | None = None
    steps: int | None = None


def roc(scores: Scores | NDArray[np.float32], member: NDArray[np.bool_]) -> Roc:
    """ROC of the scores of N records against membership [N]; needs at least one member and one non-member.

    TPR at FPR f: the share of members above the lowest threshold that at most f of the non-members exceed.
    A threshold never splits equal scores. With fewer than 1/f non-members none may exceed it, so that the value
    says nothing about f. Scores that know nothing give (⌊f·m⌋ + 1)/(m + 1) on average with m non-members.

    All of it comes from one sort of 32-bit integers in the order of the scores, whose lowest bit says member.
    """
    if not isinstance(scores, Scores):
        scores = Scores(scores)
    keys = _keys(scores.values)
    keys |= member
    keys.sort()
    outside = np.flatnonzero((keys & 1) == 0)
    if scores.levels is None:
        return _continuous(keys, outside, scores.steps)
    return _stepped(keys, outside, _keys(scores.levels))


def exceeding(
    scores: Scores, member: NDArray[np.bool_], thresholds: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(FPR, TPR), each [T], of naming the records whose score exceeds each of the thresholds [T]."""
    values = _rounded(scores.values)
    members = np.count_nonzero(member)
    fpr, tpr = np.empty((2, thresholds.size))
    for i, threshold in enumerate(thresholds.tolist()):
        if scores.levels is None:
            above = values > threshold
        elif threshold < scores.levels.size:  # more than t levels lie below: the one numbered t, from 0, does
            above = values >= _rounded(scores.levels)[int(threshold)]
        else:
            above = np.zeros(values.size, dtype=bool)
        named, true = np.count_nonzero(above), np.count_nonzero(above & member)
        fpr[i], tpr[i] = (named - true) / (values.size - members), true / members
    return fpr, tpr


def precision(tpr: float, fpr: float, prior: float) -> float:
    """Share of true members among those an attacker names, at the stated FPR and prior share of members."""
    return prior * tpr / (prior * tpr + (1 - prior) * fpr)


def roc_table(attack: str, results: Iterable[tuple[int, Roc]]) -> pd.DataFrame:
    """Long table attack, target_model, fpr, tpr (the `aggregate` contract)."""
    results = list(results)
    model = np.array([model for model, _ in results], dtype=np.int16)
    table = pd.DataFrame(
        {
            "target_model": np.repeat(model, FPR_GRID.size),
            "fpr": np.tile(FPR_GRID, model.size),
            "tpr": np.concatenate([np.empty(0), *(one.tpr for _, one in results)]),
        }
    )
    table.insert(0, "attack", pd.Series(attack, index=table.index, dtype="str"))
    return table


def roc_summary(results: list[Roc]) -> dict[str, Any]:
    """Mean and standard deviation over target models of AUC and of TPR at each reported FPR, and precision.

    Keys: auc, auc_sd, tpr[FPR] = {mean, sd}, precision[prior][FPR], which is that of the mean TPR, and finest_fpr, the
    lowest that every target resolves. None without target models, and at an FPR below that.
    """
    tprs = {fpr: _tpr_at(results, fpr) for fpr in REPORTED_FPR}
    auc, auc_sd = mean_and_sd([one.auc for one in results])
    return {
        "auc": auc,
        "auc_sd": auc_sd,
        "tpr": {str(fpr): tpr for fpr, tpr in tprs.items()},
        "precision": {
            str(prior): {
                str(fpr): None if tpr["mean"] is None else precision(tpr["mean"], fpr, prior)
                for fpr, tpr in tprs.items()
            }
            for prior in PRIORS
        },
        "finest_fpr": max((one.finest_fpr for one in results), default=None),
    }


def mean_and_sd(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1); None for what too few values cannot give."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def _tpr_at(results: list[Roc], fpr: float) -> dict[str, float | None]:
    if not all(one.resolves(fpr) for one in results):
        return {"mean": None, "sd": None}
    mean, sd = mean_and_sd([float(one.tpr[_REPORTED[REPORTED_FPR.index(fpr)]]) for one in results])
    return {"mean": mean, "sd": sd}


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values without their last bit, which leaves 23 significant ones."""
    return (np.asarray(values, dtype=np.float32).view(np.int32) & ~np.int32(1)).view(np.float32)


def _keys(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Even integers in the order of the rounded values; adding zero makes −0 equal to 0."""
    bits = (_rounded(values) + np.float32(0)).view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFE)
    return bits


def _values(keys: NDArray[np.int32]) -> NDArray[np.float64]:
    """Inverse of `_keys`."""
    bits = keys ^ ((keys >> 31) & np.int32(0x7FFFFFFE))
    return bits.view(np.float32).astype(np.float64)


def _allowed(non_members: int) -> NDArray[np.intp]:
    """How many non-members may exceed the threshold at each FPR of the grid."""
    return np.floor(FPR_GRID * non_members * _UP).astype(np.intp)


def _continuous(keys: NDArray[np.int32], outside: NDArray[np.intp], steps: int | None) -> Roc:
    """ROC from sorted keys [N] and the positions of the non-members among them."""
    records, non_members = keys.size, outside.size
    members = records - non_members
    lost = float(outside.sum()) - non_members * (non_members - 1) / 2  # members sorted before each non-member
    auc = 1 - (lost + 0.5 * _tied_pairs(keys)) / (members * non_members)

    allowed = _allowed(non_members)
    limited = allowed < non_members
    thresholds = keys[outside[non_members - 1 - allowed[limited]]]
    after = np.searchsorted(keys, thresholds | 1, side="right")
    above = np.full(FPR_GRID.size, members)
    above[limited] = (records - after) - (non_members - np.searchsorted(outside, after))
    # Never more than 10 % are allowed at a reported rate, so that each has a threshold.
    reported = keys[outside[non_members - 1 - allowed[_REPORTED]]]
    return Roc(auc, above / members, non_members, _values(reported), steps)


def _tied_pairs(keys: NDArray[np.int32]) -> float:
    """Number of pairs of a member and a non-member with equal scores; non-members come first among equals."""
    last = np.flatnonzero((keys[1:] ^ keys[:-1]) == 1)  # of the non-members
    non_members = last + 1 - np.searchsorted(keys, keys[last], side="left")
    members = np.searchsorted(keys, keys[last] | 1, side="right") - last - 1
    return float(non_members @ members)


def _stepped(keys: NDArray[np.int32], outside: NDArray[np.intp], levels: NDArray[np.int32]) -> Roc:
    """ROC of the number of levels [Z] at or below each value, from sorted keys and the non-members' positions."""
    records, non_members, steps = keys.size, outside.size, levels.size
    members = records - non_members
    below = np.concatenate([[0], np.searchsorted(keys, levels), [records]])
    outside_below = np.searchsorted(outside, below)
    inside_above = members - (below - outside_below)  # with a score of at least 0 … Z + 1
    outside_above = non_members - outside_below
    auc = float(-np.diff(outside_above) @ (inside_above[1:] + inside_above[:-1])) / (2 * members * non_members)

    allowed = _allowed(non_members)
    lowest = np.searchsorted(-outside_above[1:], -allowed)  # the first threshold that no more than allowed exceed
    tpr = np.where(allowed < non_members, inside_above[1:][lowest] / members, 1.0)
    return Roc(auc, tpr, non_members, lowest[_REPORTED].astype(np.float64), steps)
