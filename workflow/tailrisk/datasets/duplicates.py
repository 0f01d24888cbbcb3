"""The duplicates stage: records of different patients that are the same, or nearly so.

Membership is drawn per patient. A record whose copy belongs to another patient is learned from even where its own
patient is left out, so that its risk is understated; a copy in the test split makes a model look better than it is.
Not found are copies that were cropped, turned, mirrored or shifted in time.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tailrisk.datasets.near import Pairs, Rows, Standardised, TooManyError, equal, near_pairs
from tailrisk.tables import read_table, write_json, write_table

MEMBERS = 100
"""Records of a group of equal ones whose pairs are listed."""
LISTED = 100_000
"""Pairs of a kind that are listed; all are counted."""


def duplicates(folder: Path, threads: int = 1) -> None:
    """Write duplicates.parquet and duplicates.json of the prepared dataset in `folder`.

    The table lists pairs of records of different patients: `identical` ones (equal bytes) in the order of the records,
    then `near` ones, those that differ least first, up to LISTED of each. The counts in duplicates.json are of all:
    records and patients in such pairs, pairs, and how many of these are of two splits, of two audited patients, or of
    different labels; and the records that equal another one of the same patient. Where too many pairs may be near, the
    file says so (`too_many`) in place of the counts of near ones, of which the table then lists none.
    """
    records = read_table(folder / "records.parquet", "records")
    inputs = Standardised(folder / "inputs.npy")
    cohort = Cohort(records, np.load(folder / "labels.npy"), equal(inputs))
    near = Near(cohort)
    counts: dict[str, int]
    try:
        for pairs in near_pairs(inputs, cohort.first, threads):
            near.add(pairs)
        counts = near.counts()
    except TooManyError:  # before any pair is found
        counts = {"too_many": True}
    kinds = {"identical": (cohort.identical(), cohort.listed()), "near": (counts, near.listed())}
    listed = pd.concat([_table(records, cohort, kind, pairs) for kind, (_, pairs) in kinds.items()], ignore_index=True)
    write_table(folder / "duplicates.parquet", "duplicates", listed)
    summary = {kind: counts | {"listed": len(pairs[0])} for kind, (counts, pairs) in kinds.items()}
    own = {"threshold": inputs.threshold, "of_one_patient": cohort.of_one_patient()}
    write_json(folder / "duplicates.json", own | summary)


class Cohort:
    """Who the records belong to, and the groups of equal records that they form.

    `group` [N] is the number of a record's group, `first` [G] the first record of a group, `lowest` and `highest` [G]
    the numbers of its first and last patient: equal where it has only one.
    """

    def __init__(self, records: pd.DataFrame, labels: NDArray[Any], group: Rows) -> None:
        """records: of records.parquet; labels: [N] or [N, L], equal only with equal gaps; group: as `near.equal`."""
        self.group, self.first = group, np.unique(group, return_index=True)[1]
        self.patient = _numbers(records["patient"])
        vector = pd.DataFrame(labels.reshape(len(labels), -1))
        self.label = vector.groupby(list(vector.columns), dropna=False).ngroup().to_numpy(np.int64)
        self.lowest, self.highest = np.full(len(self.first), len(group)), np.full(len(self.first), -1)
        np.minimum.at(self.lowest, group, self.patient)
        np.maximum.at(self.highest, group, self.patient)
        audited = (records["split"].astype(str) == "audit").to_numpy()
        every = np.ones_like(audited)
        both = self.patient * (self.label.max() + 1) + self.label
        self.tables = {
            "pairs": self._table(np.zeros_like(group), every),
            "patient": self._table(self.patient, every),
            "split": self._table(_numbers(records["split"]), every),
            "label": self._table(self.label, every),
            "patient and label": self._table(_numbers(pd.Series(both)), every),
            "audited pairs": self._table(np.zeros_like(group), audited),
            "audited patient": self._table(self.patient, audited),
        }
        """How many records of each group [G, ...] have each value of a key: what pairs agree in follows."""

    def _table(self, key: Rows, chosen: NDArray[np.bool_]) -> csr_array:
        ones = np.ones(int(chosen.sum()), dtype=np.int64)
        shape = (len(self.first), int(key.max()) + 1)
        return csr_array((ones, (self.group[chosen], key[chosen])), shape=shape)

    def identical(self) -> dict[str, int]:
        """Counts of equal records of different patients."""
        same = {name: int((table.data * (table.data - 1) // 2).sum()) for name, table in self.tables.items()}
        return self.counts(same, (self.lowest != self.highest)[self.group])

    def counts(self, same: Mapping[str, int], found: NDArray[np.bool_]) -> dict[str, int]:
        """Counts of pairs from how many agree in each key; found: the records in them [N]."""
        pairs = same["pairs"] - same["patient"]
        return {
            "records": int(found.sum()),
            "patients": len(np.unique(self.patient[found])),
            "pairs": pairs,
            "across_splits": same["pairs"] - same["split"],  # records of a patient are in one split
            "both_audited": same["audited pairs"] - same["audited patient"],
            "different_labels": pairs - (same["label"] - same["patient and label"]),
        }

    def of_one_patient(self) -> int:
        """Records that are equal to another one of the same patient."""
        n = self.tables["patient"].data
        return int(n[n > 1].sum())

    def members(self) -> list[Rows]:
        """Records of each group [G]."""
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.group[order])) + 1)

    def between(self, a: Rows, b: Rows) -> tuple[Rows, Rows]:
        """Pairs of different patients, one record of `a` and one of `b`, each once; of many rows not all."""
        i, j = (grid.ravel() for grid in np.meshgrid(self._few(a), self._few(b), indexing="ij"))
        chosen = (self.patient[i] != self.patient[j]) & ((i < j) | (a is not b))
        return np.minimum(i, j)[chosen], np.maximum(i, j)[chosen]

    def _few(self, rows: Rows) -> Rows:
        if len(rows) <= MEMBERS:
            return rows
        another = np.flatnonzero(self.patient[rows] != self.patient[rows[0]])[:1]
        return np.union1d(rows[:MEMBERS], rows[another])

    def listed(self) -> Pairs:
        """Pairs of equal records of different patients."""
        several = np.flatnonzero(self.lowest != self.highest)
        members = self.members() if len(several) else []
        return _first((*self.between(members[group], members[group]), 0.0) for group in several)


def _numbers(values: pd.Series) -> Rows:
    return np.asarray(pd.factorize(values)[0], dtype=np.int64)


class Near:
    """Near pairs of groups of equal records, as they are found: all are counted, those that differ least are kept."""

    def __init__(self, cohort: Cohort) -> None:
        self._cohort = cohort
        self._same = dict.fromkeys(cohort.tables, 0)
        self._lowest, self._highest = np.full_like(cohort.lowest, len(cohort.group)), np.full_like(cohort.highest, -1)
        self._kept: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def add(self, pairs: Pairs) -> None:
        """Take up near pairs of groups; two groups that hold the same one patient are no such pair."""
        cohort, (a, b, difference) = self._cohort, pairs
        several = (cohort.lowest[a] != cohort.highest[b]) | (cohort.highest[a] != cohort.lowest[b])
        a, b, difference = a[several], b[several], difference[several]
        for name, table in cohort.tables.items():
            self._same[name] += int(table[a].multiply(table[b]).sum())
        for here, there in ((a, b), (b, a)):
            np.minimum.at(self._lowest, here, cohort.lowest[there])
            np.maximum.at(self._highest, here, cohort.highest[there])
        a, b, difference = (np.concatenate(part) for part in zip(self._kept, (a, b, difference), strict=True))
        least = np.lexsort((b, a, difference))[:LISTED]
        self._kept = a[least], b[least], difference[least]

    def counts(self) -> dict[str, int]:
        """Counts of near records of different patients."""
        cohort = self._cohort
        lowest, highest = self._lowest[cohort.group], self._highest[cohort.group]
        another = (lowest != highest) | (lowest != cohort.patient)  # in a near group is a patient who is not their own
        return cohort.counts(self._same, (highest >= 0) & another)

    def listed(self) -> Pairs:
        """Near pairs of records of different patients."""
        members = self._cohort.members() if len(self._kept[0]) else []
        return _first(
            (*self._cohort.between(members[a], members[b]), difference)
            for a, b, difference in zip(*self._kept, strict=True)
        )


def _first(found: Iterator[tuple[Rows, Rows, float]]) -> Pairs:
    """The first LISTED pairs of those that are found together, at one difference."""
    parts: list[Pairs] = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    n = 0
    for a, b, difference in found:
        parts.append((a, b, np.full(len(a), difference)))
        n += len(a)
        if n >= LISTED:
            break
    a, b, differences = (np.concatenate(part)[:LISTED] for part in zip(*parts, strict=True))
    return a, b, differences


def _table(records: pd.DataFrame, cohort: Cohort, kind: str, pairs: Pairs) -> pd.DataFrame:
    a, b, difference = pairs
    columns = {
        f"{column}_{side}": records[column].astype(str).to_numpy(object)[rows]
        for side, rows in (("a", a), ("b", b))
        for column in ("record", "patient", "split")
    }
    same = cohort.label[a] == cohort.label[b]
    return pd.DataFrame({**columns, "kind": kind, "difference": difference, "same_label": same})
