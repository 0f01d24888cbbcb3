"""Group variables as numbers: one group or a set of groups for every record, and what is unknown."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tailrisk.errors import UserError

UNKNOWN = "unknown"


class Variable(NamedTuple):
    """A group variable of N records.

    pattern [N]: number of the record's set of groups, −1 where unknown; groups [patterns, G]: 1 where a set has the
    group; names [G]; overlapping: whether a record can have several groups, or none; unknown: the pattern that unknown
    values have as a group of their own, −1 where they are dropped.
    """

    pattern: NDArray[np.intp]
    groups: csr_array
    names: NDArray[np.object_]
    overlapping: bool
    unknown: int


def group_variable(values: pd.Series, unknown_as_group: bool) -> Variable:
    """A column of groups, missing where unknown: single values, or lists of strings, which overlap.

    Raises UserError where lists stand beside single values or hold anything but strings.
    """
    known = np.flatnonzero(values.notna().to_numpy())
    pattern = np.full(len(values), -1, dtype=np.intp)
    single = values.iloc[known]
    listed = [isinstance(one, list | tuple | set | frozenset | np.ndarray) for one in _boxed(single)]
    overlapping = any(listed)
    sets: list[frozenset[str]]
    if overlapping:
        if not all(listed):
            raise UserError(
                f"group variable '{values.name}' has lists beside single values: give a list for each record"
            )
        pattern[known], sets = _patterns(single, str(values.name))
    else:
        pattern[known], names = pd.factorize(single.astype(str), sort=True)
        sets = [frozenset([name]) for name in names]
    unknown = -1
    if unknown_as_group and known.size < len(values):
        unknown_set = frozenset([UNKNOWN])
        if unknown_set not in sets:
            sets.append(unknown_set)
        unknown = sets.index(unknown_set)
    return Variable(pattern, *_matrix(sets), overlapping, unknown)


def _boxed(values: pd.Series) -> Iterable[Any]:
    """The values that may be lists: none where the column has a type of its own."""
    return values if values.dtype == object else ()


def _patterns(values: pd.Series, name: str) -> tuple[NDArray[np.intp], list[frozenset[str]]]:
    numbers: dict[frozenset[str], int] = {}
    pattern = [numbers.setdefault(frozenset(one), len(numbers)) for one in values]
    for one in numbers:
        if not all(isinstance(label, str) for label in one):
            raise UserError(
                f"group variable '{name}' has a list with something else than strings: {sorted(map(str, one))}"
            )
    return np.array(pattern, dtype=np.intp), list(numbers)


def _matrix(sets: list[frozenset[str]]) -> tuple[csr_array, NDArray[np.object_]]:
    names = sorted(frozenset().union(*sets))
    column = {name: i for i, name in enumerate(names)}
    rows = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    columns = np.array([column[name] for one in sets for name in sorted(one)], dtype=np.intp)
    matrix = csr_array((np.ones(rows.size), (rows, columns)), shape=(len(sets), len(names)))
    return matrix, np.array(names, dtype=object)


def known_part(
    variable: Variable, pattern: NDArray[np.intp]
) -> tuple[NDArray[np.intp], csr_array, NDArray[np.object_]]:
    """Pattern numbers, group matrix and names of what occurs in `pattern` [U], known values of the variable."""
    used, pattern = np.unique(pattern, return_inverse=True)
    groups = variable.groups[used]
    present = np.flatnonzero(groups.sum(axis=0) > 0)
    return pattern.astype(np.intp), groups[:, present], variable.names[present]
