"""Chance for the relation between a group's residual and its share: two ways in which nothing would be behind it.

A residual (O − E)/√E is partly mechanical: Σ√E·residual = 0 within a variable, its size grows with √E, and a small
group can rise by hundreds of per cent where none can fall by more than one hundred. Simulated (four variables of 2 to
8 groups, tail of 600): with one group exposed fourfold, drawn whatever its size, Spearman's correlation of residual and
share averaged −0.27, without any relation between size and risk. Against permuted patients that was significant at 5 %
in 24 % of studies, against shuffled changes in 7 to 8 %; risks spread log-normally over groups gave 4 % and 4 to 6 %,
no effect at all 6 % and 8 %, and a risk that falls with size as share^−0.4 was found in over 99 %.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.audit.composition import residuals
from tailrisk.audit.permutation import distinct_draws
from tailrisk.audit.variables import group_variable

_BLOCK = 1 << 21  # numbers held at a time by an array of draws
KEY = ["variable", "group"]


def permuted_patients(
    risk: NDArray[np.float64],
    ties: NDArray[np.uint64],
    patient: NDArray[np.integer],
    groups: pd.DataFrame,
    unknown_as_group: list[str],
    tail: float,
    permutations: int,
    seed: int,
) -> pd.DataFrame:
    """Residuals of every group in the tail of records when whole patients change places: [B, G], columns (variable,
    group).

    risk, ties, patient [N]: order of the records, which breaks ties, and number of the patient; groups: N rows, one
    column a variable as in `audit.subgroups`. Patients change places within equal numbers of records, all their records
    and all variables at once: variables that say the same (two diagnoses of different detail) keep doing so, while each
    by itself would count as further evidence.
    """
    order = np.lexsort((ties, patient))
    patient, risk, ties = patient[order], risk[order], ties[order]
    variables = {str(name): group_variable(groups[name].iloc[order], name in unknown_as_group) for name in groups}
    patterns = {name: np.where(one.pattern < 0, one.unknown, one.pattern) for name, one in variables.items()}
    known = {name: np.count_nonzero(pattern >= 0) for name, pattern in patterns.items()}
    tails = {name: max(1, int(tail * n * (1 + 1e-12))) for name, n in known.items() if n}
    columns = pd.MultiIndex.from_tuples([(name, group) for name in tails for group in variables[name].names], names=KEY)
    if not tails:
        return pd.DataFrame(index=pd.RangeIndex(permutations), columns=columns)
    # A variable's tail are the first records with a known value: some more are drawn than it needs on average.
    reach = max(size / known[name] for name, size in tails.items()) * risk.size
    top = np.lexsort((ties, -risk))[: int(1.5 * reach) + 100]
    share = {
        name: np.bincount(patterns[name][patterns[name] >= 0], minlength=variables[name].groups.shape[0])
        @ variables[name].groups
        / known[name]
        for name in tails
    }
    result: list[NDArray[np.float64]] = []
    for records in _moved(top, patient, permutations, _generator(seed, "permuted patients")):
        parts = []
        for name, size in tails.items():
            pattern, matrix = patterns[name][records], variables[name].groups
            inside = (pattern >= 0) & (np.cumsum(pattern >= 0, axis=1) <= size)
            row_start = np.arange(len(records))[:, None] * matrix.shape[0]
            tally = np.bincount((pattern + row_start)[inside], minlength=len(records) * matrix.shape[0])
            expected = share[name] * inside.sum(axis=1)[:, None]
            parts.append(residuals(tally.reshape(len(records), -1) @ matrix, expected))
        result.append(np.concatenate(parts, axis=1))
    return pd.DataFrame(np.concatenate(result), columns=columns)


def _moved(
    top: NDArray[np.intp], patient: NDArray[np.integer], permutations: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """The records whose labels come to stand at the places `top` [T], in blocks [b, T] of all permutations.

    patient [N] in rising order. Each patient in `top` draws another (or itself) with as many records, without
    replacement, and for each of its places one of that patient's records.
    """
    start = np.flatnonzero(np.r_[True, patient[1:] != patient[:-1]])
    size = np.diff(np.append(start, patient.size))
    stratum = np.unique(size, return_inverse=True)[1]
    by_stratum = np.argsort(stratum, kind="stable")
    in_stratum = np.bincount(stratum)
    first = np.cumsum(in_stratum) - in_stratum

    owner = np.searchsorted(start, top, side="right") - 1
    holders, holder = np.unique(stratum[owner] * start.size + owner, return_inverse=True)  # rising by stratum
    holders %= start.size
    by_holder = np.argsort(holder, kind="stable")
    rows = max(1, _BLOCK // max(start.size, size[holders].sum()))
    for begin in range(0, permutations, rows):
        block = min(rows, permutations - begin)
        other = by_stratum[first[stratum[holders]] + distinct_draws(stratum[holders], in_stratum, block, rng)]
        inside = np.empty((block, top.size), dtype=np.intp)
        inside[:, by_holder] = distinct_draws(holder[by_holder], size[holders], block, rng)
        yield start[other][:, holder] + inside


def shuffled_changes(groups: pd.DataFrame, draws: int, seed: int) -> NDArray[np.float64]:
    """Residuals [draws, G] when the groups of every variable exchange their risks, whatever their sizes.

    groups: columns variable, share, tail_expected and relative_change. With c the relative changes of a variable,
    permuted, O* = k·E·(1 + c), k such that ΣO* = ΣO, and the residual is (O* − E)/√E. The noisier c of small groups
    passes on to large ones.
    """
    rng = _generator(seed, "shuffled changes")
    result = np.empty((draws, len(groups)))
    for rows in groups.reset_index(drop=True).groupby("variable", sort=True, observed=True).groups.values():
        expected, change = (groups[name].to_numpy()[rows] for name in ("tail_expected", "relative_change"))
        drawn = rng.permuted(np.tile(1 + change, (draws, 1)), axis=1) * expected
        drawn *= (expected * (1 + change)).sum() / drawn.sum(axis=1, keepdims=True)
        result[:, rows] = residuals(drawn, expected)
    return result


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(purpose.encode())]))
