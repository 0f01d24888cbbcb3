"""Who the patients of MIMIC-IV are: hosp/patients and hosp/admissions, for every dataset of the MIMIC family."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.datasets.columns import by_value, ids, numbers, times, unique_ids
from tailrisk.datasets.labels import label_table
from tailrisk.datasets.needs import Need, either
from tailrisk.datasets.timeline import Timeline

PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year")
ADMISSIONS = ("subject_id", "hadm_id", "admittime", "dischtime", "insurance", "race")
SEX = {"F": "female", "M": "male"}
RACES = {"WHITE": "White", "BLACK": "Black", "HISPANIC": "Hispanic", "ASIAN": "Asian"}
"""First words of the races that are told apart; all others are few and together "other"."""
UNSTATED = ("UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER")
"""How races begin that were not learned."""


@dataclass(frozen=True)
class Part:
    """A table of MIMIC-IV, read: where it lies, and its checksum under the name that the card shows."""

    table: pd.DataFrame
    path: Path
    checksums: dict[str, str]


def located(folder: Path, name: str) -> Path:
    """The table `name` ("hosp/patients") of the release in `folder`, compressed as downloaded or unpacked."""
    return either(folder, f"{name}.csv.gz", f"{name}.csv")


def part(folder: Path, name: str, complete: tuple[str, ...], optional: tuple[str, ...] = ()) -> Part:
    """Columns of a table of the release as text; those of `complete` are nowhere blank."""
    path = located(folder, name)
    table, checksum = label_table(path, complete=complete, optional=optional)
    return Part(table, path, {f"{path.parent.name}/{path.name}": checksum})


def needs(folder: Path) -> list[Need]:
    """The two tables of this module."""
    return [Need(located(folder, "hosp/patients"), PATIENTS), Need(located(folder, "hosp/admissions"), ADMISSIONS)]


def patients(folder: Path) -> Part:
    """hosp/patients by subject_id (text): sex, anchor_age and anchor_year (float)."""
    read = part(folder, "hosp/patients", PATIENTS[:1], PATIENTS[1:])
    table = pd.DataFrame(
        {
            "sex": read.table["gender"].map(SEX),
            "anchor_age": numbers(read.path, read.table, "anchor_age"),
            "anchor_year": numbers(read.path, read.table, "anchor_year"),
        }
    )
    table.index = pd.Index(unique_ids(read.path, read.table, "subject_id"), name="subject_id")
    return Part(table, read.path, read.checksums)


def admissions(folder: Path, *optional: str) -> Part:
    """hosp/admissions: subject_id and hadm_id (text), admittime and dischtime, race and insurance in plain words, and
    the columns `optional` as they are."""
    read = part(folder, "hosp/admissions", ADMISSIONS[:2], (*ADMISSIONS[2:], *optional))
    table = read.table.assign(
        subject_id=ids(read.path, read.table, "subject_id"),
        hadm_id=unique_ids(read.path, read.table, "hadm_id"),
        admittime=times(read.path, read.table, "admittime"),
        dischtime=times(read.path, read.table, "dischtime"),
        race=by_value(read.table["race"], race),
        insurance=by_value(read.table["insurance"], insurance),
    )
    return Part(table, read.path, read.checksums)


def race(column: pd.Series) -> pd.Series:
    """MIMIC's vocabulary by its first word ("WHITE - BRAZILIAN" is White); missing where it was not learned."""
    upper = column.str.upper()
    first = upper.str.extract(r"^([A-Z]+)", expand=False)
    stated = first.notna() & ~upper.str.startswith(UNSTATED, na=False).astype(bool)
    return first.map(RACES).fillna("other").astype(object).where(stated, None)


def insurance(column: pd.Series) -> pd.Series:
    """ "Medicare" and "Medicaid" as they are; "other" holds private ones too until MIMIC-IV 3, which has "private"."""
    return column.where(column.isin(["Medicare", "Medicaid"]), column.str.lower()).astype(object)


def age(subjects: pd.Series, at: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Age in years of `subjects` in the year of the times `at`; missing for subjects that hosp/patients lacks.

    91 stands for all ages over 89 at the anchor year.
    """
    known = table.reindex(subjects)
    born = (known["anchor_year"] - known["anchor_age"]).to_numpy()
    return pd.Series(at.dt.year.to_numpy(float) - born, index=at.index)


def latest(admitted: pd.DataFrame, subjects: pd.Series, at: pd.Series, name: str) -> pd.Series:
    """Column `name` of the last admission of `subjects` [K] that began by `at` [K]; missing where there is none."""
    timeline = Timeline(admitted["subject_id"], admitted["admittime"])
    low, high = timeline.before(timeline.moments(subjects, at + pd.Timedelta(seconds=1)))
    values = admitted[name].to_numpy(object)[timeline.order]
    found = np.full(len(at), None, dtype=object)
    some = high > low
    found[some] = values[high[some] - 1]
    return pd.Series(found, index=at.index)


def demographics(folder: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """For every subject_id (text) of MIMIC-IV: sex, anchor_age, anchor_year, race and insurance; and checksums.

    Race is missing where admissions state several (unstated ones aside), insurance is that of the last admission.
    """
    people, admitted = patients(folder), admissions(folder)
    by_time = admitted.table.sort_values("admittime", kind="stable").groupby("subject_id")
    # nunique and last leave missing values out.
    races = by_time["race"].last().where(by_time["race"].nunique() == 1, None)
    return (
        people.table.assign(
            race=races.reindex(people.table.index), insurance=by_time["insurance"].last().reindex(people.table.index)
        ),
        people.checksums | admitted.checksums,
    )
