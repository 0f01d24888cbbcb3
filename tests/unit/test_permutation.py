"""Permutation of whole patients against all permutations, one by one."""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import csr_array

from tailrisk.audit.permutation import distinct_draws, layout, permute

RNG = np.random.default_rng


def all_counts(pattern, groups, patient, cell, in_tail):
    """Counts of the groups in the tail [possibilities, G] under every exchange of label vectors between patients with
    equal cells, and every exchange of labels within the equal cells of a vector."""
    rows = {p: sorted(np.flatnonzero(patient == p), key=lambda i: cell[i]) for p in np.unique(patient)}
    strata: dict = {}
    for positions in rows.values():
        strata.setdefault(tuple(cell[positions]), []).append(positions)
    totals = np.zeros((1, groups.shape[1]))
    for cells, members in strata.items():
        inner = [
            list(positions)
            for positions in permutations(range(len(cells)))
            if all(cells[a] == cells[b] for a, b in zip(positions, range(len(cells)), strict=True))
        ]
        possible = []
        for order in permutations(members):
            for shuffles in product(inner, repeat=len(members)):
                count = np.zeros(groups.shape[1])
                for taker, giver, shuffle in zip(members, order, shuffles, strict=True):
                    for place, source in enumerate(shuffle):
                        if in_tail[taker[place]]:
                            count += groups[pattern[giver[source]]]
                possible.append(count)
        totals = (totals[:, None] + np.array(possible)).reshape(-1, groups.shape[1])
    return totals


PLAIN = np.eye(2)
OVERLAPPING = np.array([[0, 0], [1, 0], [1, 1]])  # none, a, a and b
CASES = {
    "numbers of records": (PLAIN, [1, 1, 1, 1, 2, 2, 2, 3], [0] * 13),
    "within cells": (PLAIN, [1, 1, 1, 1, 1, 3, 3, 3], [0, 0, 0, 1, 1, 5, 4, 4, 4, 5, 4, 4, 4, 5]),
    "overlapping": (OVERLAPPING, [1, 1, 1, 1, 2, 2, 2], [0] * 10),
}


@pytest.mark.parametrize("case", CASES)
def test_counts_are_those_of_all_permutations(case):
    groups, sizes, cell = CASES[case]
    rng = RNG(5)
    patient, cell = np.repeat(np.arange(len(sizes)), sizes), np.array(cell)
    pattern = rng.integers(0, len(groups), patient.size)
    in_tail = rng.random(patient.size) < 0.5
    every = all_counts(pattern, groups, patient, cell, in_tail)
    got = permute(pattern, csr_array(groups), in_tail, layout(patient, cell), 20000, rng)
    np.testing.assert_allclose(got.expected, every.mean(axis=0), atol=1e-10)
    share = Counter(map(tuple, every.astype(int).tolist()))
    drawn = Counter(map(tuple, got.counts.astype(int).tolist()))
    assert set(drawn) <= set(share)
    assert len(share) >= 3
    for counts, number in share.items():
        p = number / len(every)
        assert drawn[counts] / 20000 == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20000) + 1e-9)


def test_tail_units_that_cannot_change_their_label_are_told_apart():
    patient = np.array([0, 1, 2, 3, 3, 4, 4, 5, 5, 5])
    cell = np.zeros(10, dtype=int)
    pattern = np.array([0, 1, 0, 1, 1, 1, 1, 0, 1, 0])
    # One of three singles (can move), one of two equal pairs (cannot), a record of the patient with three (can).
    in_tail = np.isin(np.arange(10), [0, 3, 8])
    assert permute(pattern, csr_array(PLAIN), in_tail, layout(patient, cell), 9, RNG(0)).movable == pytest.approx(2 / 3)
    alone = np.arange(10)  # everybody in a cell of their own
    got = permute(pattern, csr_array(PLAIN), in_tail, layout(patient, alone), 9, RNG(0))
    assert got.movable == 0
    np.testing.assert_array_equal(got.counts, np.tile([1, 2], (9, 1)))


@pytest.mark.parametrize("drawn", [2, 5], ids=["few of a pool", "most of a pool"])
def test_draws_are_distinct_and_every_assignment_equally_probable(drawn):
    pool = np.repeat([0, 1, 3], [1, drawn, 2])
    draws = distinct_draws(pool, np.array([1, 6, 7, 9]), 60000, RNG(1))
    assert (draws[:, 0] == 0).all()
    main, other = draws[:, 1 : 1 + drawn], draws[:, 1 + drawn :]
    assert all(len(set(row)) == drawn for row in main.tolist())
    assert (other[:, 0] != other[:, 1]).all()
    number = 1
    for i in range(drawn):
        number *= 6 - i
    seen = np.unique(main, axis=0, return_counts=True)[1]
    assert len(seen) == number
    assert stats.chisquare(seen).pvalue > 1e-3
    # Pools are drawn from independently of each other.
    joint = np.zeros((6, 9))
    np.add.at(joint, (main[:, 0], other[:, 0]), 1)
    assert stats.chisquare(joint.ravel()).pvalue > 1e-3
