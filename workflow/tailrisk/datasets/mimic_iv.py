"""MIMIC-IV: 73,181 ICU stays (Johnson et al., Scientific Data 2023); the first day, and death in hospital."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tailrisk.config.sources import MimicIv
from tailrisk.datasets.columns import ids, times, unique_ids
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
from tailrisk.datasets.labels import age_bands, refuse
from tailrisk.datasets.mimic_iv_patients import Part, admissions, age, located, part, patients
from tailrisk.datasets.mimic_iv_patients import needs as patients_needs
from tailrisk.datasets.needs import Need

STAYS = ("subject_id", "hadm_id", "stay_id", "intime", "outtime")
OF_ADMISSION = ("admission_type", "hospital_expire_flag", "deathtime")
ADULT = 18
DAY = 86_400
KINDS = {
    "EW EMER.": "emergency",
    "DIRECT EMER.": "emergency",
    "URGENT": "emergency",
    "ELECTIVE": "elective",
    "SURGICAL SAME DAY ADMISSION": "elective",
    "OBSERVATION ADMIT": "observation",
    "EU OBSERVATION": "observation",
    "DIRECT OBSERVATION": "observation",
    "AMBULATORY OBSERVATION": "observation",
}
VITALS = (
    Measure("heart_rate", 10, 350, (220045,)),
    Measure("respiratory_rate", 1, 120, (220210, 224690)),
    Measure("oxygen_saturation", 10, 100, (220277,)),
    Measure("systolic_pressure", 20, 375, (220050, 220179, 225309)),
    Measure("diastolic_pressure", 10, 375, (220051, 220180, 225310)),
    Measure("mean_pressure", 10, 375, (220052, 220181, 225312)),
    Measure("temperature", 25, 45, (223762,), fahrenheit=(223761,)),
    Measure("gcs_eye", 1, 4, (220739,)),
    Measure("gcs_verbal", 1, 5, (223900,)),
    Measure("gcs_motor", 1, 6, (223901,)),
)
"""By itemid of icu/d_items: arterial and cuff pressures are one measure."""
LABORATORY = (
    Measure("lab_sodium", 80, 200, (50983, 52623, 50824)),
    Measure("lab_potassium", 1, 15, (50971, 52610, 50822)),
    Measure("lab_chloride", 50, 175, (50902, 52535, 50806)),
    Measure("lab_bicarbonate", 2, 70, (50882, 50803)),
    Measure("lab_urea_nitrogen", 1, 300, (51006, 52647)),
    Measure("lab_creatinine", 0.05, 50, (50912, 52546)),
    Measure("lab_glucose", 10, 3000, (50931, 52569, 50809)),
    Measure("lab_white_cells", 0.05, 1000, (51301, 51300)),
    Measure("lab_haemoglobin", 1, 30, (51222, 50811)),
    Measure("lab_platelets", 1, 3000, (51265,)),
    Measure("lab_prothrombin_ratio", 0.5, 30, (51237,)),
    Measure("lab_bilirubin", 0.05, 100, (50885,)),
    Measure("lab_albumin", 0.5, 7, (50862,)),
    Measure("lab_lactate", 0.1, 50, (50813,)),
    Measure("lab_ph", 6.3, 8.0, (50820,)),
)
"""By itemid of hosp/d_labitems, in blood; also as measured by blood gas analysers."""
VITALS_COLUMNS = {"stay_id": pa.int64(), "charttime": pa.timestamp("s"), "itemid": pa.int64(), "valuenum": pa.float64()}
LABORATORY_COLUMNS = {"subject_id": pa.int64()} | {
    name: kind for name, kind in VITALS_COLUMNS.items() if name != "stay_id"
}


def needs(spec: MimicIv) -> list[Need]:
    """Four tables, and the vital signs where they are wanted."""
    folder = Path(spec.path)
    found = [
        Need(located(folder, "icu/icustays"), (*STAYS, "first_careunit")),
        *patients_needs(folder),
        Need(located(folder, "hosp/admissions"), OF_ADMISSION),
        Need(located(folder, "hosp/labevents"), tuple(LABORATORY_COLUMNS)),
    ]
    if spec.vitals:
        found.append(Need(located(folder, "icu/chartevents"), tuple(VITALS_COLUMNS)))
    return found


def read(spec: MimicIv) -> Dataset:
    """Stays of adults who lived through the first day, labelled with death before leaving the hospital.

    The label is that of the admission, so stays of one admission share it. Measurements are those taken in the first 24
    hours from the stay's begin, while it lasted; what is known at its begin are age, sex, unit and kind of admission.
    """
    folder = Path(spec.path)
    stays, people, admitted = _stays(folder), patients(folder), admissions(folder, *OF_ADMISSION)
    table = _described(stays.table, people.table, admitted)
    hours = (table["outtime"] - table["intime"]).dt.total_seconds() / 3600
    survived = (table["deathtime"] - table["intime"]).dt.total_seconds() / 3600
    reason = np.select(
        [
            table["died"].isna(),
            table["age"].isna(),
            table["age"] < ADULT,
            hours.isna(),
            hours < spec.min_hours,
            survived < spec.min_hours,
        ],
        [
            "outcome unknown",
            "patient not in hosp/patients of MIMIC-IV",
            "younger than 18 years",
            "end of the stay unknown",
            f"stay shorter than {spec.min_hours:g} hours",
            f"died within {spec.min_hours:g} hours",
        ],
        "",
    )
    kept = reason == ""
    cohort = table[kept].reset_index(drop=True)
    known, names = encode(cohort, ["age"], ["sex", "first_careunit", "admission"], level_of_missing="missing")
    large = {"hosp/labevents": LABORATORY} | ({"icu/chartevents": VITALS} if spec.vitals else {})
    features = [*names, *(name for measures in large.values() for name in feature_names(measures))]
    paths = [located(folder, name) for name in large]
    return Dataset(
        title="MIMIC-IV ICU stays",
        task="binary",
        classes=["left the hospital alive", "died in hospital"],
        record=cohort["stay_id"].to_numpy(object),
        patient=cohort["subject_id"].to_numpy(object),
        inputs=cast(
            NDArray[Any], Deferred((len(cohort), len(features)), partial(_inputs, known, cohort, folder, list(large)))
        ),
        labels=cohort["died"].to_numpy(np.int64),
        groups=_groups(cohort, stays.path),
        features=features,
        licence=spec.terms,
        preprocessing="Minimum, mean and maximum of every measurement in the first 24 hours, impossible values left "
        "out, temperatures in degrees Celsius; missing ones are the median beside an indicator; numbers standardised "
        "over all records; one indicator per level of a category.",
        where=str(stays.path),
        checksums=stays.checksums
        | people.checksums
        | admitted.checksums
        | {f"{path.parent.name}/{path.name}": checksum(path) for path in paths},
        excluded=excluded(table["stay_id"][~kept], reason[~kept]),
        expected={"rows": 73_181},
    )


def _stays(folder: Path) -> Part:
    stays = part(folder, "icu/icustays", ("subject_id", "hadm_id", "stay_id", "intime"), ("outtime", "first_careunit"))
    table = stays.table.assign(
        subject_id=ids(stays.path, stays.table, "subject_id"),
        hadm_id=ids(stays.path, stays.table, "hadm_id"),
        stay_id=unique_ids(stays.path, stays.table, "stay_id"),
        intime=times(stays.path, stays.table, "intime"),
        outtime=times(stays.path, stays.table, "outtime"),
    )
    return Part(table, stays.path, stays.checksums)


def _described(stays: pd.DataFrame, people: pd.DataFrame, admitted: Part) -> pd.DataFrame:
    """Stays with what is known of their patient and admission; `died` is missing where the outcome is."""
    flag = admitted.table["hospital_expire_flag"]
    refuse(admitted.path, flag.notna() & ~flag.isin(["0", "1"]), "column 'hospital_expire_flag' is neither 0 nor 1")
    of_admission = admitted.table.assign(
        deathtime=times(admitted.path, admitted.table, "deathtime"),
        died=flag.map({"0": 0.0, "1": 1.0}),
        admission=admitted.table["admission_type"].map(KINDS),
    ).set_index("hadm_id")
    columns = ["deathtime", "died", "admission", "race", "insurance"]
    found = of_admission[columns].reindex(stays["hadm_id"]).reset_index(drop=True)
    return pd.concat([stays, found], axis=1).assign(
        sex=people["sex"].reindex(stays["subject_id"]).to_numpy(object),
        age=age(stays["subject_id"], stays["intime"], people),
    )


def _inputs(known: NDArray[np.float32], cohort: pd.DataFrame, folder: Path, large: list[str]) -> NDArray[np.float32]:
    """All features [N, F]; reads the tables of measurements."""
    blocks = [known]
    begin = cohort["intime"].to_numpy("datetime64[s]").astype(np.int64)
    end = np.minimum(begin + DAY, cohort["outtime"].to_numpy("datetime64[s]").astype(np.int64))
    if "hosp/labevents" in large:
        blocks.append(_laboratory(located(folder, "hosp/labevents"), cohort, begin, end))
    if "icu/chartevents" in large:
        blocks.append(_vitals(located(folder, "icu/chartevents"), cohort, begin, end))
    return np.hstack(blocks)


def _vitals(path: Path, cohort: pd.DataFrame, begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float32]:
    summary = Summary(len(cohort), VITALS)
    stay_ids = cohort["stay_id"].to_numpy(np.int64)
    for found in measurements(path, VITALS_COLUMNS, "itemid", summary.codes):
        at = found["charttime"].astype("datetime64[s]").astype(np.int64)
        stay = lookup(stay_ids, found["stay_id"])
        summary.add(_during(stay, at, begin, end), found["itemid"], found["valuenum"])
    return summary.features()


def _laboratory(
    path: Path, cohort: pd.DataFrame, begin: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float32]:
    """By patient and time, as a quarter of the samples name no admission. A patient is in one stay at a time."""
    summary = Summary(len(cohort), LABORATORY)
    subjects, person = np.unique(cohort["subject_id"].to_numpy(np.int64), return_inverse=True)
    span = int(end.max()) + 1  # times are after 1970
    order = np.argsort(person * span + begin)
    starts = (person * span + begin)[order]
    for found in measurements(path, LABORATORY_COLUMNS, "itemid", summary.codes):
        at = found["charttime"].astype("datetime64[s]").astype(np.int64)
        who = lookup(subjects, found["subject_id"])
        # The last stay of the person that had begun by then; that of another one has ended.
        last = np.searchsorted(starts, who * span + np.clip(at, 0, span - 1), side="right") - 1
        stay = np.where((who >= 0) & (last >= 0), order[np.maximum(last, 0)], -1)
        stay[person[stay] != who] = -1
        summary.add(_during(stay, at, begin, end), found["itemid"], found["valuenum"])
    return summary.features()


def _during(
    stay: NDArray[np.int64], at: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`stay` where a measurement is of its first day, else -1. A time that is missing is none."""
    return np.where((stay >= 0) & (at >= begin[stay]) & (at < end[stay]), stay, -1)


def _groups(cohort: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Race and insurance are those of the admission."""
    return pd.DataFrame(
        {
            "race": cohort["race"],
            "sex": cohort["sex"],
            "age": age_bands(path, cohort, "age"),
            "insurance": cohort["insurance"],
            "admission": cohort["admission"],
            "unit": cohort["first_careunit"],
        }
    )
