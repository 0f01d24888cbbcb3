"""Who is in the tail: representation of groups among the records, or the patients, with the highest AUC."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.audit.composition import composition, residuals
from tailrisk.audit.permutation import Permuted, layout, permute
from tailrisk.audit.variables import Variable, group_variable, known_part

UNITS = ("record", "patient")
COLUMNS = [
    "variable",
    "group",
    "n",
    "share",
    "tail_n",
    "tail_expected",
    "tail_share",
    "relative_change",
    "residual",
    "statistic",
    "dof",
    "p_value",
    "p_clustered",
    "p_adjusted",
    "tail_expected_clustered",
    "unit",
    "within",
    "overlapping",
    "residual_low",
    "residual_high",
]
MOST_CONTRADICTORY = 0.05  # share of patients whose records may contradict each other, as a mistyped sex does
LEAST_MOVABLE = 0.05  # share of the tail below which a permutation says nothing about the tail


@dataclass(frozen=True)
class SubgroupOptions:
    """tail: share of units called the tail; permutations: of every test; within: variables in whose strata the others
    are tested, too; unknown_as_group: variables whose unknown values are a group of their own; variables: those to
    test, None for all."""

    tail: float = 0.01
    permutations: int = 1999
    within: Sequence[str] = ()
    unknown_as_group: Sequence[str] = ()
    variables: Sequence[str] | None = None


class SubgroupResult(NamedTuple):
    """What `subgroup_tests` finds.

    table: one row a group with COLUMNS; skipped: variable, unit, within ("" where it concerns all) and the reason;
    alone: for each variable, the number of patients with a number of known records that no other has; movable: for each
    test (variable, unit, within) the `share` of the tail in strata where not all labels are equal.
    """

    table: pd.DataFrame
    skipped: list[dict[str, str]]
    alone: dict[str, int]
    movable: list[dict[str, Any]]


def tie_breakers(record: NDArray[np.str_], seed: int) -> NDArray[np.uint64]:
    """A random number per record [N], by the seed and the rank of its id among all N, not by its place in the table.

    Other ids of the same order, as an artefact without identifiers has them, get the same numbers.
    """
    ids, rank = np.unique(record, return_inverse=True)
    drawn = np.random.Philox(key=[seed, zlib.crc32(f"tail {ids.size}".encode())]).random_raw(ids.size)
    return np.asarray(drawn, dtype=np.uint64)[rank]


def tail_units(d: NDArray[np.float64], ties: NDArray[np.uint64], tail: float) -> NDArray[np.intp]:
    """Positions of the ⌊tail·U⌋ units (at least one) with the highest d, which orders where Φ(d) has reached 1;
    equal ones by `ties`."""
    size = max(1, int(tail * d.size * (1 + 1e-12)))
    return np.lexsort((ties, -d))[:size]


def subgroup_tests(
    d: NDArray[np.float64],
    ties: NDArray[np.uint64],
    patient: NDArray[np.integer],
    groups: pd.DataFrame,
    options: SubgroupOptions,
    seed: int,
) -> SubgroupResult:
    """Representation of the groups of every variable in the tail of records and in the tail of patients.

    d, ties, patient [N]: order of the records, which breaks ties, and number of the patient; groups: N rows, one column
    a variable, missing = unknown (dropped for that variable, also before the tail is taken, unless it is to be a
    group), lists of strings where groups overlap. The tail of patients is that of their maxima; patients whose records
    contradict each other are left out, and variables of which that is more than MOST_CONTRADICTORY are not tested so.

    As published: expected = share × tail size, residual = (O − E)/√E, χ² of the tail against all (not for overlapping
    groups, where dof is 0). Valid when patients have several records: p_clustered, tail_expected_clustered and the
    2.5 and 97.5 % quantiles of each residual, by permutation of whole patients within equal numbers of records
    (`permute`) and, where `within` names a variable, within equal values of it. p_adjusted: Holm over the variables of
    one unit and one `within`. Raises UserError for columns that mix lists and single values.
    """
    d, ties, patient, groups = _in_order(d, ties, patient, groups)
    every = {str(name): group_variable(groups[name], name in options.unknown_as_group) for name in groups.columns}
    absent = "no variable of this dataset: others cannot be tested within it"
    skipped = [_skip("", name, "", absent) for name in options.within if name not in every]
    tested, by_patient = [], []
    for name, variable in every.items():
        if options.variables is not None and name not in options.variables:
            continue
        if reason := _nothing_to_compare(_filled(variable)):
            skipped.append(_skip("", name, "", reason))
            continue
        tested.append(name)
        if (share := _contradictory(variable, patient).mean()) > MOST_CONTRADICTORY:
            reason = f"differs between records of one patient, for {share:.0%} of them"
            skipped.append(_skip("patient", name, "", reason))
        else:
            by_patient.append(name)

    families: list[dict[str, Any]] = []
    alone: dict[str, int] = {}
    movable: list[dict[str, Any]] = []
    for within in ("", *(name for name in options.within if name in every)):
        for unit, names in zip(UNITS, (tested, by_patient), strict=True):
            parts: list[dict[str, Any]] = []
            for name in names:
                if name == within:
                    continue
                units = _UNITS[unit](d, ties, patient, every[name], every.get(within))
                if reason := _nothing_to_compare(units.pattern):
                    skipped.append(_skip(unit, name, within, f"{reason} where '{within}' is known"))
                    continue
                test = _test(units, every[name], options, _generator(seed, unit, name, within))
                if within and test.permuted.movable < LEAST_MOVABLE:
                    reason = f"hardly varies among patients with equal '{within}': only {test.permuted.movable:.1%} of "
                    skipped.append(_skip(unit, name, within, reason + "the tail could change places"))
                    continue
                movable.append({"variable": name, "unit": unit, "within": within, "share": test.permuted.movable})
                if (unit, within) == ("record", ""):
                    alone[name] = test.alone
                parts.append(test.columns | {"variable": name, "unit": unit, "within": within})
            families += _adjusted(parts)
    return SubgroupResult(_table(families, COLUMNS), skipped, alone, movable)


def _table(parts: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    frames = [pd.DataFrame({name: part[name] for name in columns}) for part in parts]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _in_order(
    d: NDArray[np.float64], ties: NDArray[np.uint64], patient: NDArray[np.integer], groups: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.integer], pd.DataFrame]:
    """The records by patient and tie: random permutations must not meet them in the order of the file."""
    order = np.lexsort((ties, patient))
    return d[order], ties[order], patient[order], groups.iloc[order]


def _skip(unit: str, variable: str, within: str, reason: str) -> dict[str, str]:
    return {"variable": variable, "unit": unit, "within": within, "reason": reason}


def _generator(seed: int, *test: str) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32("\0".join(test).encode())]))


def _nothing_to_compare(pattern: NDArray[np.intp]) -> str:
    """Why a variable with these pattern numbers (−1: unknown) cannot be tested; empty where it can."""
    known = pattern[pattern >= 0]
    if not known.size:
        return "no known values"
    return "" if (known != known[0]).any() else "only one known group"


def _filled(variable: Variable) -> NDArray[np.intp]:
    return np.where(variable.pattern < 0, variable.unknown, variable.pattern)


class _Units(NamedTuple):
    """Units [U] with known values: order, ties, the patient whose labels move, the cell they stay in, and pattern."""

    d: NDArray[np.float64]
    ties: NDArray[np.uint64]
    patient: NDArray[np.integer]
    cell: NDArray[np.intp]
    pattern: NDArray[np.intp]


def _record_units(
    d: NDArray[np.float64],
    ties: NDArray[np.uint64],
    patient: NDArray[np.integer],
    variable: Variable,
    other: Variable | None,
) -> _Units:
    pattern = _filled(variable)
    cell = np.zeros_like(pattern) if other is None else _filled(other)
    known = np.flatnonzero((pattern >= 0) & (cell >= 0))
    # Equal numbers of records are those of all records, as a risk grows with them whether their group is known or not.
    every = np.unique(patient, return_inverse=True, return_counts=True)
    cell = np.where(cell < 0, cell, cell * (every[2].max() + 1) + every[2][every[1]])
    return _Units(d[known], ties[known], patient[known], cell[known], pattern[known])


def _patient_units(
    d: NDArray[np.float64],
    ties: NDArray[np.uint64],
    patient: NDArray[np.integer],
    variable: Variable,
    other: Variable | None,
) -> _Units:
    """Patients with one known value; their cell is the number of their records and the other variable's values."""
    start = np.flatnonzero(np.r_[True, np.diff(patient) != 0])
    pattern = np.maximum.reduceat(variable.pattern, start)
    pattern[pattern < 0] = variable.unknown
    pattern[_contradictory(variable, patient)] = -1
    values = np.zeros_like(variable.pattern) if other is None else _filled(other)
    known = np.flatnonzero((pattern >= 0) & (np.maximum.reduceat(values, start) >= 0))
    # A minimum of ties would favour patients with many records.
    fair = np.bitwise_xor.reduceat(ties, start)
    stratum = layout(patient, values).stratum
    return _Units(np.maximum.reduceat(d, start)[known], fair[known], known, stratum[known], pattern[known])


_UNITS = dict(zip(UNITS, (_record_units, _patient_units), strict=True))


def _contradictory(variable: Variable, patient: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each patient [P], in rising order [N], has records with different known values."""
    start = np.flatnonzero(np.r_[True, np.diff(patient) != 0])
    largest = np.iinfo(variable.pattern.dtype).max
    least = np.minimum.reduceat(np.where(variable.pattern < 0, largest, variable.pattern), start)
    return np.maximum.reduceat(variable.pattern, start) > least


class _Test(NamedTuple):
    """One variable's columns of the table, and what `permute` gave."""

    columns: dict[str, Any]
    permuted: Permuted
    alone: int


def _test(units: _Units, variable: Variable, options: SubgroupOptions, rng: np.random.Generator) -> _Test:
    pattern, groups, names = known_part(variable, units.pattern)
    in_tail = np.zeros(pattern.size, dtype=bool)
    in_tail[tail_units(units.d, units.ties, options.tail)] = True
    places = layout(units.patient, units.cell)
    permuted = permute(pattern, groups, in_tail, places, options.permutations, rng)
    columns = composition(
        names,
        np.bincount(pattern, minlength=groups.shape[0]) @ groups,
        np.bincount(pattern[in_tail], minlength=groups.shape[0]) @ groups,
        pattern.size,
        int(in_tail.sum()),
        variable.overlapping,
    )
    drawn = residuals(permuted.counts, columns["tail_expected"])
    columns |= {
        "p_clustered": _permutation_p(columns["tail_n"], permuted),
        "tail_expected_clustered": permuted.expected,
        "residual_low": np.quantile(drawn, 0.025, axis=0, method="lower"),
        "residual_high": np.quantile(drawn, 0.975, axis=0, method="higher"),
    }
    return _Test(columns, permuted, int(np.count_nonzero(np.bincount(places.stratum) == 1)))


def _permutation_p(observed: NDArray[np.integer], permuted: Permuted) -> float:
    """p = (1 + #{X² permuted ≥ observed})/(B + 1) with X² = Σ (O − E)²/E over the groups that can be in the tail."""
    used = permuted.expected > 0
    expected = permuted.expected[used]
    statistic = ((permuted.counts[:, used] - expected) ** 2 / expected).sum(axis=1)
    limit = ((observed[used] - expected) ** 2 / expected).sum() * (1 - 1e-9)
    return float((1 + np.count_nonzero(statistic >= limit)) / (statistic.size + 1))


def _adjusted(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    adjusted = holm(np.array([part["p_clustered"] for part in parts]))
    return [part | {"p_adjusted": p} for part, p in zip(parts, adjusted, strict=True)]


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down adjustment of p-values [m]."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted
