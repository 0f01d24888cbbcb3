"""What the report says about one prepared dataset: its card, its groups and its near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tailrisk.config.sources import Source
from tailrisk.report.text import plural, share
from tailrisk.tables import read_json, read_table

UNKNOWN, NOTHING = "not known", "none"
"""A missing value, and an empty list of labels."""
LABEL = "label"
"""The group variable that the groups stage adds: the records' own labels."""
BANDS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 50), (51, 100), (101, math.inf))
"""Numbers of records, first and last, by which patients are counted."""
TASKS = {
    "binary": "one of two classes",
    "multiclass": "one of several classes",
    "multilabel": "several labels at once",
}


@dataclass(frozen=True)
class GroupRow:
    """One value of a group variable, with the share of the dataset's records."""

    variable: str
    group: str
    first: bool
    """Whether it is the first one of its variable."""
    records: int
    patients: int
    share: float


@dataclass(frozen=True)
class Expected:
    """A count of the complete source in the literature, and that of the source at hand."""

    what: str
    expected: int
    found: int

    @property
    def verdict(self) -> str:
        """How the two compare, in words."""
        if self.found == self.expected:
            return "as published"
        return f"{share(self.found / self.expected)} of it" if self.found < self.expected else "more than published"


@dataclass(frozen=True)
class Card:
    """One dataset: `card` is its card.json with the study's captions, `figure` its records as SVG text or None."""

    name: str
    card: Mapping[str, Any]
    task: str
    predicted: str
    """Column or target that the models learn, as the configuration calls it; empty where there is no choice."""
    input: str
    expected: list[Expected]
    complete: str
    per_patient: list[tuple[str, int, float]]
    """Records of a patient in words, patients with so many, and their share of the largest such number."""
    groups: list[GroupRow]
    overlapping: list[str]
    """Variables of which a record can have several values."""
    duplicates: Mapping[str, Any]
    sentences: list[str]
    access: str
    figure: str | None


def load_card(name: str, card: Mapping[str, Any], source: Source, folder: Path, figure: str | None) -> Card:
    """Read what belongs to the dataset `name`: groups.parquet and duplicates.json in `folder`; `card` is read."""
    records = read_table(folder / "records.parquet", "records", ["patient"])
    groups = read_table(folder / "groups.parquet", "groups").drop(columns="record")
    found = read_json(folder / "duplicates.json")
    expected = [Expected(**row) for row in card["expected"]]
    shown = [variable for variable in groups if not _says_label(variable, groups[variable], card["classes"])]
    return Card(
        name=name,
        card=card,
        task=TASKS[card["task"]],
        predicted=predicted(source),
        input=input_in_words(card["input_shape"]),
        expected=expected,
        complete=completeness(expected),
        per_patient=per_patient(card["records_per_patient"]),
        groups=[row for variable in shown for row in composition(variable, groups[variable], records["patient"])],
        overlapping=[variable for variable in shown if _several(groups[variable])],
        duplicates=found,
        sentences=duplicates_in_words(found, is_table=len(card["input_shape"]) == 1),
        access=source.access,
        figure=figure,
    )


def predicted(source: Source) -> str:
    """What the models learn: the label column(s) of one's own data, or the target of a source that has several."""
    chosen = getattr(source, "label", None) or getattr(source, "target", "")
    return ", ".join(chosen) if isinstance(chosen, list) else str(chosen)


def input_in_words(shape: list[int]) -> str:
    """The shape of a record for people."""
    match shape:
        case [features]:
            return plural(features, "feature")
        case [leads, samples]:
            return f"{plural(leads, 'lead')} of {plural(samples, 'sample')}"
        case [channels, height, width]:
            return f"{height} × {width} pixels, {'gray' if channels == 1 else 'colour'}"
    return " × ".join(map(str, shape))


def completeness(expected: list[Expected]) -> str:
    """Whether the source at hand is the complete one that the literature counts; empty where nothing is expected."""
    differing = [row for row in expected if row.found != row.expected]
    if not expected:
        return ""
    if not differing:
        return "The source is complete: every count is as published."
    sizes = [row for row in expected if not row.what.startswith("class ")]
    if sizes and all(row.found <= row.expected for row in sizes) and any(row in differing for row in sizes):
        return "This is a part of the source: it has fewer rows, records or patients than published."
    return "This differs from the published source: another version, or other rules of who is included."


def per_patient(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Patients by how many records they have, in BANDS; empty bands are left out."""
    rows = []
    for low, high in BANDS:
        n = sum(count for number, count in counts.items() if low <= int(number) <= high)
        words = str(low) if low == high else f"{low} or more" if math.isinf(high) else f"{low} to {high}"
        rows.append((words, n))
    most = max(n for _, n in rows)
    return [(words, n, n / most) for words, n in rows if n]


def composition(variable: str, values: pd.Series, patient: pd.Series) -> list[GroupRow]:
    """Records and patients of each value of a group variable [N]: ranges of numbers in their order, other values by
    frequency, and the unknown last."""
    borne = values.astype(object).map(lambda value: NOTHING if isinstance(value, list) and not value else value)
    rows = pd.DataFrame({"value": borne, "patient": patient, "row": np.arange(len(values))}).explode("value")
    rows["value"] = rows["value"].where(rows["value"].notna(), None)
    counts = rows.groupby("value", dropna=False).agg(records=("row", "nunique"), patients=("patient", "nunique"))
    counts = counts.reset_index()
    counts["unknown"] = counts["value"].isna()
    counts["value"] = counts["value"].where(~counts["unknown"], UNKNOWN).astype(str)
    start = counts["value"].str.extract(r"^(\d+)", expand=False).astype(float)
    ranges = start[~counts["unknown"]].notna().all()
    counts["order"] = start if ranges else -counts["records"]
    counts = counts.sort_values(["unknown", "order", "value"])
    found = []
    for place, row in enumerate(counts.itertuples()):
        part = row.records / len(values)
        found.append(GroupRow(variable, row.value, place == 0, int(row.records), int(row.patients), part))
    return found


def _several(values: pd.Series) -> bool:
    return bool(values.map(lambda value: isinstance(value, list)).any())


def _says_label(variable: str, values: pd.Series, classes: list[str]) -> bool:
    """Whether a variable is the label, which has a table of its own."""
    return variable == LABEL and set(values.explode().dropna().astype(str)) <= set(classes)


def duplicates_in_words(found: Mapping[str, Any], is_table: bool) -> list[str]:
    """What duplicates.json means for membership inference."""
    most, too_many = found["threshold"], "too_many" in found["near"]
    method = (
        f"no feature differs by more than {most:g} standard deviations"
        if is_table
        else f"they differ by at most {most:g} standard deviations (root mean square), whatever their brightness, "
        "contrast or gain"
    )
    if found["identical"]["pairs"] + found["near"].get("pairs", 0) == 0:
        shared = "" if too_many else f", or a nearly identical one ({method})"
        sentences = [f"No two patients share an identical record{shared}."]
    else:
        sentences = [] if too_many else [f"Records are nearly identical where {method}."]
        sentences += [
            "A model that learned from one of two such records has learned from the other as well, although that one's "
            "patient may count as a non-member: the risk of both is understated. A copy in the test split makes models "
            "look better than they are.",
            "The two may be one person under two ids, or two people with the same values."
            if is_table
            else "The two may be one person under two ids.",
        ]
    if too_many:
        why = ", as they do where a few extreme values, such as 99999 for missing, dominate the features"
        sentences.append(
            f"Whether any are nearly identical ({method}) could not be told: too many pairs lie close "
            f"together{why if is_table else ''}."
        )
    if n := found["of_one_patient"]:
        equal = "1 record equals" if n == 1 else f"{n:,} records equal"
        sentences.append(f"{equal} another one of the same patient, which hides nothing: both are learned from.")
    if not is_table:
        sentences.append("Copies that were cropped, turned, mirrored or shifted in time are not found.")
    return sentences
