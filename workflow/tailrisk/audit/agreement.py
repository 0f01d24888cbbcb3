"""Do two risks of the same patients agree, in their order and in who is in the tail, and more than by chance?

Chance is that no patient leaves a trace: then IN and OUT can change places within the pairs of models, and whatever two
risks have in common besides (numbers of records, and how alike these are) stays. Risks from the same halves of the
patients change places in the same pairs, those from others each in pairs of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tailrisk.audit import flips
from tailrisk.audit.pairs import blocks

FLIPS = 99


@dataclass(frozen=True)
class Agreement:
    """Of two risks of n patients: Spearman's correlation (NaN where undefined) and how many are in both tails, each
    beside its mean under chance, and the p of an overlap as large, (1 + #{overlap ≥ found})/(flips + 1)."""

    n: int
    rank_correlation: float
    rank_correlation_expected: float
    tail_n: int
    tail_overlap: int
    tail_expected: float
    tail_p: float


def agreement(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    null_a: NDArray[np.floating],
    null_b: NDArray[np.floating],
    ties: NDArray[np.uint64],
    tail: float,
) -> Agreement:
    """Agreement of the patients' risks a and b [P] (AUCs, or anything that increases with them).

    null_a, null_b [F, P]: both under F relabellings, none where chance is not known (its numbers are NaN then). The
    tails are the ⌊tail·P⌋ patients (at least one) with the highest values, equal ones by `ties` [P], differently for a
    and b, so that ties do not agree.
    """
    size = max(1, int(tail * a.size * (1 + 1e-12)))
    broken = (ties, ties * np.uint64(0x9E3779B97F4A7C15))  # an odd factor: another order of the same numbers

    def compared(x: NDArray[np.floating], y: NDArray[np.floating]) -> tuple[float, int]:
        overlap = np.count_nonzero(_in_tail(x, broken[0], size) & _in_tail(y, broken[1], size))
        return float((_centred_ranks(x) * _centred_ranks(y)).sum()), int(overlap)

    correlation, overlap = compared(a, b)
    drawn = np.array([compared(x, y) for x, y in zip(null_a, null_b, strict=True)]).reshape(-1, 2)
    known = len(drawn) > 0
    return Agreement(
        n=a.size,
        rank_correlation=correlation,
        rank_correlation_expected=float(drawn[:, 0].mean()) if known else np.nan,
        tail_n=size,
        tail_overlap=overlap,
        tail_expected=float(drawn[:, 1].mean()) if known else np.nan,
        tail_p=(1 + np.count_nonzero(drawn[:, 1] >= overlap)) / (1 + len(drawn)) if known else np.nan,
    )


def _centred_ranks(risk: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centred ranks of unit length, whose product is Spearman's correlation; NaN where all values are equal."""
    ranks = rankdata(risk) - (risk.size + 1) / 2
    with np.errstate(invalid="ignore"):
        return ranks / np.sqrt((ranks * ranks).sum())


def _in_tail(risk: NDArray[np.floating], ties: NDArray[np.uint64], size: int) -> NDArray[np.bool_]:
    """Whether a patient [P] is among the `size` with the highest risk, equal ones by `ties`."""
    least = np.partition(risk, risk.size - size)[risk.size - size]
    chosen = risk > least
    equal = np.flatnonzero(risk == least)
    chosen[equal[np.argsort(ties[equal], kind="stable")[: size - np.count_nonzero(chosen)]]] = True
    return chosen


def risks(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    signs: NDArray[np.float32],
    pairs: slice = slice(None),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Largest flip statistic of every patient [P], which orders as the AUC does, and under relabellings [F, P].

    confidences, member [2n, N] in complementary pairs; patient [N]: 0 … P − 1; signs [n′, F] of the chosen pairs.
    """
    observed = np.empty(int(patient.max()) + 1, dtype=np.float32)
    null = np.empty((signs.shape[1], observed.size), dtype=np.float32)
    for block in blocks(confidences, member, patient):
        v = flips.scaled_differences(block.x[pairs], block.y[pairs])
        observed[block.patient] = flips.patient_maximum(flips.observed_statistics(v), block.starts, block.sizes)
        null[:, block.patient] = flips.patient_maximum(flips.null_statistics(v, signs), block.starts, block.sizes).T
    return observed, null


def half_agreement(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    ties: NDArray[np.uint64],
    tail: float,
    seed: int,
) -> Agreement:
    """Agreement of the patients' largest AUC in the even and in the odd pairs of one experiment.

    confidences, member [2n, N] in complementary pairs, n ≥ 4; patient [N]: 0 … P − 1; ties [P]. The halves of the
    models share no membership. More agreement than this cannot be expected of two experiments with half as many
    models each.
    """
    n = len(confidences) // 2
    found = [
        risks(
            confidences,
            member,
            patient,
            flips.sign_flips(len(range(half, n, 2)), FLIPS, seed + half),
            slice(half, n, 2),
        )
        for half in (0, 1)
    ]
    (even, null_even), (odd, null_odd) = found
    flipped = min(len(null_even), len(null_odd))  # fewer where there are not so many relabellings
    return agreement(even, odd, null_even[:flipped], null_odd[:flipped], ties, tail)
