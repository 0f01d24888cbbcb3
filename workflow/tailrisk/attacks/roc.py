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


def rank_auc(positive: NDArray[np.float32], negative: NDArray[np.float32]) -> NDArray[np.float64]:
    """P(positive > negative) + ½ P(equal) along the last axis; shapes [..., P] and [..., Q] → [...].

    The Mann–Whitney statistic by one sort: each float32 becomes an integer of the same order whose lowest bit
    says positive, so that among equals the negatives come first. Rows with ties are sorted once more the
    other way round and the two answers averaged. Values must be finite.
    """
    keys = np.concatenate([_ordered_integers(positive) | 1, _ordered_integers(negative)], axis=-1)
    keys.sort(axis=-1)
    wins = _wins(keys & 1, positive.shape[-1])
    tied = ((np.diff(keys, axis=-1) == 1) & (keys[..., :-1] & 1 == 0)).any(axis=-1)
    if tied.any():
        flipped = np.sort(keys[tied] ^ 1, axis=-1)
        wins[tied] = 0.5 * (wins[tied] + _wins((flipped & 1) ^ 1, positive.shape[-1]))
    return wins / (positive.shape[-1] * negative.shape[-1])


def _ordered_integers(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Even integers in the order of the values; adding zero makes −0 equal to 0."""
    bits = (np.asarray(values, dtype=np.float32) + np.float32(0)).view(np.int32)
    return (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64) << 1


def _wins(is_positive: NDArray[np.int64], positives: int) -> NDArray[np.float64]:
    """Number of negatives sorted before each positive, summed; an array even for a single row."""
    positions = np.arange(is_positive.shape[-1], dtype=np.float64)
    return np.asarray(is_positive.astype(np.float64) @ positions - positives * (positives - 1) / 2)


@dataclass(frozen=True)
class Roc:
    """Success of one attack on one target model: rank AUC, TPR at every FPR of FPR_GRID, number of non-members."""

    auc: float
    tpr: NDArray[np.float64]
    non_members: int

    def resolves(self, fpr: float) -> bool:
        """Whether there are non-members enough for one of them to be a false positive at this rate."""
        return fpr * self.non_members * _UP >= 1


def roc(scores: NDArray[np.float32], member: NDArray[np.bool_]) -> Roc:
    """ROC of scores [N] against membership [N]; needs at least one member and one non-member.

    TPR at FPR f: the share of members above the lowest threshold that at most f of the non-members exceed.
    A threshold never splits equal scores. With fewer than 1/f non-members none may exceed it, so that the value
    says nothing about f. Scores that know nothing give (⌊f·m⌋ + 1)/(m + 1) on average with m non-members.
    """
    inside, outside = scores[member], scores[~member]
    auc = float(rank_auc(inside, outside))
    inside, outside = np.sort(inside), np.sort(outside)
    allowed = np.floor(FPR_GRID * outside.size * _UP).astype(np.intp)
    limited = allowed < outside.size
    above = np.full(FPR_GRID.size, inside.size)
    thresholds = outside[outside.size - 1 - allowed[limited]]
    above[limited] = inside.size - np.searchsorted(inside, thresholds, side="right")
    return Roc(auc=auc, tpr=above / inside.size, non_members=outside.size)


def precision(tpr: float, fpr: float, prior: float) -> float:
    """Share of true members among those an attacker names, at the stated FPR and prior share of members."""
    return prior * tpr / (prior * tpr + (1 - prior) * fpr)


def roc_table(attack: str, results: Iterable[tuple[int, Roc]]) -> pd.DataFrame:
    """Long table attack, target_model, fpr, tpr (the `aggregate` contract)."""
    parts = [pd.DataFrame({"target_model": np.int16(model), "fpr": FPR_GRID, "tpr": one.tpr}) for model, one in results]
    table = (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame({"target_model": np.empty(0, np.int16), "fpr": np.empty(0), "tpr": np.empty(0)})
    )
    table.insert(0, "attack", pd.Series(attack, index=table.index, dtype="str"))
    return table


def roc_summary(results: list[Roc]) -> dict[str, Any]:
    """Mean and standard deviation over target models of AUC and of TPR at each reported FPR, and precision.

    Keys: auc, auc_sd, tpr[FPR] = {mean, sd}, precision[prior][FPR], which is that of the mean TPR. None without
    target models, and at an FPR of less than one non-member of some target.
    """
    aucs = np.array([one.auc for one in results])
    tprs = {fpr: _tpr_at(results, fpr) for fpr in REPORTED_FPR}
    return {
        "auc": float(aucs.mean()) if results else None,
        "auc_sd": float(aucs.std(ddof=1)) if results else None,
        "tpr": {str(fpr): tpr for fpr, tpr in tprs.items()},
        "precision": {
            str(prior): {
                str(fpr): None if tpr["mean"] is None else precision(tpr["mean"], fpr, prior)
                for fpr, tpr in tprs.items()
            }
            for prior in PRIORS
        },
    }


def _tpr_at(results: list[Roc], fpr: float) -> dict[str, float | None]:
    if not results or not all(one.resolves(fpr) for one in results):
        return {"mean": None, "sd": None}
    column = int(np.argmin(np.abs(np.log(FPR_GRID / fpr))))
    tpr = np.array([one.tpr[column] for one in results])
    return {"mean": float(tpr.mean()), "sd": float(tpr.std(ddof=1))}
