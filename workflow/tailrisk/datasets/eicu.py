"""eICU 2.0: 200,859 ICU stays in 208 hospitals (Pollard et al., Scientific Data 2018); the first day, and death."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tailrisk.config.sources import Eicu
from tailrisk.datasets.columns import ids, numbers, unique_ids, within
from tailrisk.datasets.contract import Dataset, excluded
from tailrisk.datasets.encode import encode
from tailrisk.datasets.first_day import (
    Deferred,
    Measure,
    Summary,
    checksum,
    feature_names,
    lookup,
    measurements,
)
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need, either

DAY = 1440
"""Minutes, in which all times are given, from the admission to the unit."""
ADULT = 18
STAY = ("patientunitstayid", "uniquepid")
OF_STAY = (
    "age",
    "gender",
    "ethnicity",
    "hospitalid",
    "unittype",
    "unitadmitsource",
    "unitstaytype",
    "unitvisitnumber",
    "hospitaladmitoffset",
    "admissionheight",
    "admissionweight",
    "unitdischargeoffset",
    "unitdischargestatus",
    "hospitaldischargestatus",
)
APS: dict[str, tuple[float, float]] = {
    "intubated": (0, 1),
    "vent": (0, 1),
    "dialysis": (0, 1),
    "eyes": (1, 4),
    "motor": (1, 6),
    "verbal": (1, 5),
    "meds": (0, 1),
    "urine": (0, 20_000),
    "wbc": (0.05, 1000),
    "temperature": (25, 45),
    "respiratoryrate": (1, 120),
    "sodium": (80, 200),
    "heartrate": (10, 350),
    "meanbp": (10, 375),
    "ph": (6.3, 8),
    "hematocrit": (1, 80),
    "creatinine": (0.05, 50),
    "albumin": (0.5, 7),
    "pao2": (10, 800),
    "pco2": (5, 250),
    "bun": (1, 300),
    "glucose": (10, 3000),
    "bilirubin": (0.05, 100),
    "fio2": (21, 100),
}
"""The worst values of the first day, by their possible ranges. Missing ones are written as -1, which is in none."""
CONDITIONS: dict[str, tuple[float, float]] = dict.fromkeys(
    (
        "thrombolytics",
        "aids",
        "hepaticfailure",
        "lymphoma",
        "metastaticcancer",
        "leukemia",
        "immunosuppression",
        "cirrhosis",
        "electivesurgery",
        "ima",
        "midur",
        "ventday1",
        "oobventday1",
        "oobintubday1",
        "diabetes",
    ),
    (0, 1),
)
"""What apachePredVar states of the admission and its first day. Its other columns tell the outcome or what follows
(diedinhospital, dischargelocation, var03hspxlos), repeat those above, or do not say when they were known."""
ETHNICITIES = {
    "Caucasian": "White",
    "African American": "Black",
    "Hispanic": "Hispanic",
    "Asian": "Asian",
    "Native American": "Native American",
}
LABORATORY = (
    Measure("lab_sodium", 80, 200, ("sodium",)),
    Measure("lab_potassium", 1, 15, ("potassium",)),
    Measure("lab_chloride", 50, 175, ("chloride",)),
    Measure("lab_bicarbonate", 2, 70, ("bicarbonate", "HCO3")),
    Measure("lab_urea_nitrogen", 1, 300, ("BUN",)),
    Measure("lab_creatinine", 0.05, 50, ("creatinine",)),
    Measure("lab_glucose", 10, 3000, ("glucose", "bedside glucose")),
    Measure("lab_white_cells", 0.05, 1000, ("WBC x 1000",)),
    Measure("lab_haemoglobin", 1, 30, ("Hgb",)),
    Measure("lab_platelets", 1, 3000, ("platelets x 1000",)),
    Measure("lab_prothrombin_ratio", 0.5, 30, ("PT - INR",)),
    Measure("lab_bilirubin", 0.05, 100, ("total bilirubin",)),
    Measure("lab_albumin", 0.5, 7, ("albumin",)),
    Measure("lab_lactate", 0.1, 50, ("lactate",)),
    Measure("lab_ph", 6.3, 8.0, ("pH",)),
)
"""By labname."""
LABORATORY_COLUMNS = {
    "patientunitstayid": pa.int64(),
    "labresultoffset": pa.int64(),
    "labname": pa.string(),
    "labresult": pa.float64(),
}
CATEGORIES = ["gender", "unittype", "unitadmitsource", "unitstaytype"]


def located(folder: Path, name: str) -> Path:
    """The table `name` of the release in `folder`, compressed as downloaded or unpacked."""
    return either(folder, f"{name}.csv.gz", f"{name}.csv")


def needs(spec: Eicu) -> list[Need]:
    """Three tables, and the laboratory's where it is wanted; the table hospital is read where it is there."""
    folder = Path(spec.path)
    found = [
        Need(located(folder, "patient"), (*STAY, *OF_STAY)),
        Need(located(folder, "apacheApsVar"), (STAY[0], *APS)),
        Need(located(folder, "apachePredVar"), (STAY[0], *CONDITIONS)),
    ]
    if spec.laboratory:
        found.append(Need(located(folder, "lab"), tuple(LABORATORY_COLUMNS)))
    return found


def read(spec: Eicu) -> Dataset:
    """Stays of adults in an ICU, labelled with death before leaving the hospital.

    Features are what is known at admission and the first day's values of APACHE IV, and with `laboratory` the results
    of samples taken in the first 24 hours. Nothing of later days, and no score that was fitted to the outcome.
    """
    folder = Path(spec.path)
    path = located(folder, "patient")
    table, found = label_table(path, complete=STAY, optional=OF_STAY)
    checksums = {path.name: found}
    table = _described(path, table)
    for name, ranges in (("apacheApsVar", APS), ("apachePredVar", CONDITIONS)):
        values, checksums[located(folder, name).name] = _apache(located(folder, name), ranges)
        row = values.index.get_indexer(pd.Index(table["patientunitstayid"]))
        table[f"in {name}"] = row >= 0
        table[list(values)] = values.to_numpy()[row]
        table.loc[row < 0, list(values)] = np.nan
    reason = _reason(table, spec.min_hours)
    kept = reason == ""
    cohort = table[kept].reset_index(drop=True)
    numeric = ["years", "hours_in_hospital", "unitvisitnumber", "admissionheight", "admissionweight", *APS, *CONDITIONS]
    known, features = encode(
        cohort, [name for name in numeric if cohort[name].notna().any()], CATEGORIES, level_of_missing="missing"
    )
    inputs = known
    if spec.laboratory:
        lab = located(folder, "lab")
        checksums[lab.name] = checksum(lab)
        features = features + feature_names(LABORATORY)
        stays = cohort["patientunitstayid"].to_numpy(np.int64)
        make = partial(_with_laboratory, known, stays, lab)
        inputs = cast(NDArray[Any], Deferred((len(cohort), len(features)), make))
    of_hospital, checksum_of_hospitals = _hospitals(folder, cohort["hospitalid"])
    return Dataset(
        title="eICU Collaborative Research Database",
        task="binary",
        classes=["left the hospital alive", "died in hospital"],
        record=cohort["patientunitstayid"].to_numpy(object),
        patient=cohort["uniquepid"].to_numpy(object),
        inputs=inputs,
        labels=cohort["hospitaldischargestatus"].eq("Expired").to_numpy(np.int64),
        groups=pd.concat([_groups(cohort, path), of_hospital], axis=1),
        features=features,
        licence=spec.terms,
        preprocessing="Values of the first day, impossible ones left out; missing ones are the median beside an "
        "indicator; numbers standardised over all records; one indicator per level of a category.",
        where=str(path),
        checksums=checksums | checksum_of_hospitals,
        excluded=excluded(table["patientunitstayid"][~kept], reason[~kept]),
        expected={"rows": 200_859},
    )


def _described(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Stays with ids and numbers read; `years` is the age, 90 for all of "> 89"."""
    aged = table.assign(age=table["age"].str.replace(r"^>\s*89$", "90", regex=True))
    refuse(
        path,
        ~table["hospitaldischargestatus"].isin(["Alive", "Expired"]) & table["hospitaldischargestatus"].notna(),
        "column 'hospitaldischargestatus' is neither Alive nor Expired",
    )
    offset = numbers(path, table, "hospitaladmitoffset")
    return table.assign(
        patientunitstayid=unique_ids(path, table, "patientunitstayid"),
        hospitalid=ids(path, table, "hospitalid"),
        years=numbers(path, aged, "age"),
        gender=table["gender"].where(table["gender"].isin(["Female", "Male"])),
        unitvisitnumber=numbers(path, table, "unitvisitnumber"),
        unitdischargeoffset=numbers(path, table, "unitdischargeoffset"),
        # Some offsets are months away, or after the unit's: only the last 30 days before it tell something.
        hours_in_hospital=(-offset / 60).clip(0, 720),
        admissionheight=within(numbers(path, table, "admissionheight"), 100, 230),
        admissionweight=within(numbers(path, table, "admissionweight"), 25, 400),
    )


def _apache(path: Path, ranges: dict[str, tuple[float, float]]) -> tuple[pd.DataFrame, str]:
    """Possible values of a table of APACHE by stay: of several rows of a stay, the first that is known."""
    table, found = label_table(path, complete=STAY[:1], optional=list(ranges))
    values = pd.DataFrame({name: within(numbers(path, table, name), *ranges[name]) for name in ranges})
    return values.groupby(ids(path, table, STAY[0])).first(), found


def _reason(table: pd.DataFrame, min_hours: float) -> NDArray[np.object_]:
    """Why each stay is no record, "" for those that are."""
    outcome, left = table["hospitaldischargestatus"], table["unitdischargeoffset"]
    return np.select(
        [
            outcome.isna(),
            (outcome == "Alive") & (table["unitdischargestatus"] == "Expired"),
            table["years"].isna(),
            table["years"] < ADULT,
            ~table["in apacheApsVar"],
            left.isna(),
            left < min_hours * 60,
        ],
        [
            "outcome unknown",
            "outcome contradictory: died in the unit, left the hospital alive",
            "age unknown",
            "younger than 18 years",
            "no row in apacheApsVar",
            "end of the stay unknown",
            f"stay shorter than {min_hours:g} hours",
        ],
        "",
    ).astype(object)


def _with_laboratory(known: NDArray[np.float32], stays: NDArray[np.int64], path: Path) -> NDArray[np.float32]:
    """All features [N, F]; reads the table of laboratory results."""
    summary = Summary(len(stays), LABORATORY)
    for found in measurements(path, LABORATORY_COLUMNS, "labname", summary.codes):
        at, stay = found["labresultoffset"], lookup(stays, found["patientunitstayid"])
        summary.add(np.where((at >= 0) & (at < DAY), stay, -1), found["labname"], found["labresult"])
    return np.hstack([known, summary.features()])


def _hospitals(folder: Path, hospital: pd.Series) -> tuple[pd.DataFrame, dict[str, str]]:
    """Region and teaching status of every stay's hospital, where there is the table."""
    path = located(folder, "hospital")
    if not path.exists():
        return pd.DataFrame(index=hospital.index), {}
    table, found = label_table(path, complete=["hospitalid"], optional=["region", "teachingstatus"])
    by_id = table.set_index(unique_ids(path, table, "hospitalid"))
    columns = pd.DataFrame(
        {"region": by_id["region"], "hospital": by_id["teachingstatus"].map({"t": "teaching", "f": "not teaching"})}
    )
    # A part of the release may lie in hospitals of which nothing is told.
    return columns.reindex(hospital).reset_index(drop=True).dropna(axis=1, how="all"), {path.name: found}


def _groups(cohort: pd.DataFrame, path: Path) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sex": cohort["gender"].str.lower(),
            "ethnicity": cohort["ethnicity"].map(ETHNICITIES),
            "age": age_bands(path, cohort, "years"),
            "unit": cohort["unittype"],
        }
    )
