"""Permutation of whole patients: how many units of the tail each group would have if groups were dealt out anew.

A unit is a record, or a patient as a whole. What moves is a patient's whole vector of labels, between patients of one
stratum: those whose units lie in equal cells. Without a further variable all units lie in one cell, and a stratum is
the patients with equal numbers of records; otherwise cells are the values of that variable.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_BLOCK = 1 << 21  # numbers held at a time by an array of draws


class Layout(NamedTuple):
    """Where units may move; places are counted in `order`, which sorts units by patient and cell.

    order [U]: positions of the units; patient [U]: number of each place's patient, in the order of the ids; start [P]:
    each patient's first place; stratum [P]; run [U]: number of the patient's units of one cell, among which labels may
    change places; site [U]: the runs that correspond to each other in the patients of a stratum have one number.
    """

    order: NDArray[np.intp]
    patient: NDArray[np.intp]
    start: NDArray[np.intp]
    stratum: NDArray[np.intp]
    run: NDArray[np.intp]
    site: NDArray[np.intp]


class Permuted(NamedTuple):
    """expected [G] and permuted counts [B, G] of every group in the tail; movable: share of the tail's units in sites
    where not all labels are equal."""

    expected: NDArray[np.float64]
    counts: NDArray[np.float64]
    movable: float


def layout(patient: NDArray[np.integer], cell: NDArray[np.integer]) -> Layout:
    """Strata of patients from the patient [U] and the cell [U] of every unit."""
    order = np.lexsort((cell, patient))
    patient, cell = patient[order], cell[order]
    new_patient = np.r_[True, np.diff(patient) != 0]
    start = np.flatnonzero(new_patient)
    number = np.cumsum(new_patient) - 1
    stratum = _equal_vectors(start, np.diff(np.append(start, cell.size)), cell)

    run = np.cumsum(new_patient | np.r_[True, np.diff(cell) != 0]) - 1
    runs = np.zeros(int(stratum.max()) + 1, dtype=np.intp)  # of each patient in the stratum
    runs[stratum] = np.diff(np.append(run[start], run[-1] + 1))
    site = (np.cumsum(runs) - runs)[stratum[number]] + run - run[start][number]
    return Layout(order, number, start, stratum, run, site)


def _equal_vectors(start: NDArray[np.intp], size: NDArray[np.intp], cell: NDArray[np.integer]) -> NDArray[np.intp]:
    """Number of the vector cell[start : start + size] of every patient; equal vectors have equal numbers."""
    stratum = np.empty(start.size, dtype=np.intp)
    total = 0
    for length in np.unique(size):
        patients = np.flatnonzero(size == length)
        vectors = cell[start[patients][:, None] + np.arange(length)]
        same = np.unique(vectors, axis=0, return_inverse=True)[1].reshape(-1)
        stratum[patients] = total + same
        total += int(same.max()) + 1
    return stratum


def permute(
    pattern: NDArray[np.intp],
    groups: csr_array,
    in_tail: NDArray[np.bool_],
    places: Layout,
    permutations: int,
    rng: np.random.Generator,
) -> Permuted:
    """Counts of the groups in the tail when label vectors move within strata.

    pattern, in_tail [U]: each unit's set of groups, by number, and whether it is in the tail; groups [patterns, G]:
    1 where the set has the group. A patient's vector goes to any patient of its stratum with equal probability, and
    labels change places within a run. The expectation is E_g = Σ tail_s · share_{g|s} over the sites s.
    """
    pattern, in_tail = pattern[places.order], in_tail[places.order]
    tail = np.flatnonzero(in_tail)
    size = np.bincount(places.site)
    weight = np.bincount(places.site[tail], minlength=size.size) / size
    expected = np.bincount(pattern, weights=weight[places.site], minlength=groups.shape[0]) @ groups

    low, high = np.full(size.size, groups.shape[0]), np.full(size.size, -1)
    np.minimum.at(low, places.site, pattern)
    np.maximum.at(high, places.site, pattern)
    movable = float((low < high)[places.site[tail]].mean())
    return Permuted(expected, _counts(pattern, groups, tail, places, permutations, rng), movable)


def _counts(
    pattern: NDArray[np.intp],
    groups: csr_array,
    tail: NDArray[np.intp],
    places: Layout,
    permutations: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Permuted counts [B, G]; pattern [U] and tail by place. Only patients with units in the tail need a vector."""
    by_stratum = np.argsort(places.stratum, kind="stable")
    in_stratum = np.bincount(places.stratum)
    first = np.cumsum(in_stratum) - in_stratum

    # The holders of the tail, and the runs of their units in it, both in the order of the strata.
    tail = tail[np.argsort(places.stratum[places.patient[tail]], kind="stable")]
    new_holder = np.r_[True, np.diff(places.patient[tail]) != 0]
    holder = np.cumsum(new_holder) - 1  # [T]
    stratum = places.stratum[places.patient[tail[new_holder]]]
    run = np.cumsum(np.r_[True, np.diff(places.run[tail]) != 0]) - 1  # [T]
    run_size = np.bincount(places.run)
    run_start = np.cumsum(run_size) - run_size
    offset = run_start[places.run[tail]] - places.start[places.patient[tail]]  # of the run in the vector
    run_sizes = run_size[places.run[tail[np.r_[True, np.diff(run) != 0]]]]
    varies = bool((pattern[1:] != pattern[:-1])[places.run[1:] == places.run[:-1]].any())

    rows = min(max(1, _BLOCK // max(tail.size, by_stratum.size, groups.shape[0])), permutations)
    counts = np.empty((permutations, groups.shape[1]))
    for begin in range(0, permutations, rows):
        block = min(rows, permutations - begin)
        moved = by_stratum[first[stratum] + distinct_draws(stratum, in_stratum, block, rng)]
        inside = distinct_draws(run, run_sizes, block, rng) if varies else 0  # equal labels: any of them will do
        drawn = pattern[places.start[moved][:, holder] + offset + inside]
        drawn += np.arange(block)[:, None] * groups.shape[0]
        tally = np.bincount(drawn.ravel(), minlength=block * groups.shape[0])
        counts[begin : begin + block] = tally.reshape(block, -1) @ groups
    return counts


def distinct_draws(
    pool: NDArray[np.intp], size: NDArray[np.intp], rows: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draws without replacement [rows, k]: entry i takes one of the numbers 0 … size[pool[i]] − 1 of its pool.

    pool [k]: rising numbers of the pools; size [pools]. In every row each assignment of a pool's numbers to its entries
    has the same probability. Time and memory grow with rows times the sizes of the pools drawn from.
    """
    entries = np.bincount(pool, minlength=size.size)
    result = np.zeros((rows, pool.size), dtype=np.intp)
    dense = 2 * entries > size
    for chosen, draw in ((dense & (size > 1), _by_sorting), (~dense & (entries > 0), _by_rejection)):
        if chosen.any():
            number = np.cumsum(chosen) - 1
            here = chosen[pool]
            result[:, here] = draw(number[pool[here]], size[chosen], rows, rng)
    return result


def _by_sorting(
    pool: NDArray[np.intp], size: NDArray[np.intp], rows: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """`distinct_draws` by shuffling every pool."""
    first = np.cumsum(size) - size
    keys = np.repeat(np.arange(size.size), size) + rng.random((rows, int(size.sum())))
    rank = np.arange(pool.size) - np.searchsorted(pool, pool)
    return np.argsort(keys, axis=1)[:, first[pool] + rank] - first[pool]


def _by_rejection(
    pool: NDArray[np.intp], size: NDArray[np.intp], rows: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """`distinct_draws` by trying again what is taken: which entry keeps a number never depends on the number, so that
    all assignments remain equally probable."""
    total = int(size.sum())
    first = (np.arange(rows)[:, None] * total + (np.cumsum(size) - size)[pool]).ravel()
    sizes = np.broadcast_to(size[pool], (rows, pool.size)).ravel()
    owner = np.full(rows * total, -1, dtype=np.int32)
    result = np.empty(first.size, dtype=np.intp)
    pending = np.arange(first.size)
    while pending.size:
        tried = (rng.random(pending.size) * sizes[pending]).astype(np.intp)
        key = first[pending] + tried
        free = owner[key] < 0
        owner[key[free]] = pending[free]
        kept = owner[key] == pending
        result[pending[kept]] = tried[kept]
        pending = pending[~kept]
    return result.reshape(rows, pool.size)
