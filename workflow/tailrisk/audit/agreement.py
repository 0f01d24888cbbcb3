"""Do two risks of the same patients agree: in their order, and in who is in the tail?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom, rankdata

from tailrisk.audit import flips
from tailrisk.audit.pairs import blocks
from tailrisk.audit.subgroups import tail_units


@dataclass(frozen=True)
class Agreement:
    """Of two risks of n patients: Spearman's correlation (NaN where undefined) and how many are in both tails, each
    beside what chance gives, and the p of an overlap as large."""

    n: int
    rank_correlation: float
    rank_correlation_expected: float
    tail_n: int
    tail_overlap: int
    tail_expected: float
    tail_p: float


def agreement(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    n_records: NDArray[np.integer],
    ties: NDArray[np.uint64],
    tail: float,
) -> Agreement:
    """Agreement of the patients' risks a and b [P] (AUCs, or anything that increases with them).

    The tails are the ⌊tail·P⌋ patients (at least one) with the highest values, equal ones by `ties` [P]. A largest AUC
    grows with the number of records [P], which alone makes any two experiments agree; so chance is that patients with
    equally many records change places: with sums over numbers of records s, tail_expected = Σ a_s b_s/n_s (tail_n²/n
    where all have one record), and p from the sum of independent hypergeometric counts. A patient whose number of
    records nobody shares stays.
    """
    x, y = centred_ranks(a), centred_ranks(b)
    strata = np.unique(n_records, return_inverse=True)[1]
    sizes = np.bincount(strata)
    expected = (np.bincount(strata, x) * np.bincount(strata, y) / sizes).sum()
    in_a, in_b = (in_tail(one, ties, tail) for one in (a, b))
    held_a, held_b = np.bincount(strata[in_a], minlength=sizes.size), np.bincount(strata[in_b], minlength=sizes.size)
    overlap = int((in_a & in_b).sum())
    return Agreement(
        n=a.size,
        rank_correlation=float((x * y).sum()),
        rank_correlation_expected=float(expected),
        tail_n=int(in_a.sum()),
        tail_overlap=overlap,
        tail_expected=float((held_a * held_b / sizes).sum()),
        tail_p=_overlap_p(overlap, sizes, held_a, held_b),
    )


def centred_ranks(risk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred ranks of unit length, whose product is Spearman's correlation; NaN where all values are equal."""
    ranks = rankdata(risk) - (risk.size + 1) / 2
    with np.errstate(invalid="ignore"):
        return ranks / np.sqrt((ranks * ranks).sum())


def in_tail(risk: NDArray[np.float64], ties: NDArray[np.uint64], tail: float) -> NDArray[np.bool_]:
    """Whether a patient [P] is among the ⌊tail·P⌋ with the highest risk, equal ones by `ties`."""
    chosen = np.zeros(risk.size, dtype=bool)
    chosen[tail_units(risk, ties, tail)] = True
    return chosen


def _overlap_p(overlap: int, n: NDArray[np.intp], a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    """P(Σ_s H_s ≥ overlap) of independent hypergeometric H_s: a_s drawn of n_s, of which b_s are marked."""
    probability = np.ones(1)
    for n_s, a_s, b_s in zip(n, a, b, strict=True):
        if a_s and b_s:
            probability = np.convolve(probability, hypergeom.pmf(np.arange(min(a_s, b_s) + 1), n_s, b_s, a_s))
    return float(min(probability[overlap:].sum(), 1.0))


def half_agreement(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    ties: NDArray[np.uint64],
    tail: float,
) -> Agreement:
    """Agreement of the patients' largest AUC in the even and in the odd pairs of one experiment.

    confidences, member [2n, N] in complementary pairs, n ≥ 4; patient [N]: 0 … P − 1; ties [P]. The halves of the
    models share no membership. More agreement than this cannot be expected of two experiments with half as many
    models each.
    """
    risk = np.empty((2, ties.size))
    for block in blocks(confidences, member, patient):
        for half in (0, 1):
            u = flips.scaled_differences(block.x[half::2], block.y[half::2]).sum(axis=0)
            risk[half, block.patient] = flips.patient_maximum(u, block.starts, block.sizes)
    return agreement(risk[0], risk[1], np.bincount(patient), ties, tail)
