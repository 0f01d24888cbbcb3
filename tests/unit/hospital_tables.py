"""Small releases of MIMIC-IV-ED and MIMIC-IV in their documented layout, with invented patients."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.datasets.contract import Dataset

HEADERS = {
    "ed/edstays": "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition",
    "ed/triage": "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint",
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,"
    "admission_location,discharge_location,insurance,language,marital_status,race,edregtime,edouttime,"
    "hospital_expire_flag",
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,storetime,value,"
    "valuenum,valueuom,ref_range_lower,ref_range_upper,flag,priority,comments",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,"
    "warning",
}


class Release:
    """Tables of rows {column: value}, blank where not given; `write` makes the files."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, object]]] = {name: [] for name in HEADERS}

    def add(self, table: str, **values: object) -> dict[str, object]:
        assert set(values) <= set(HEADERS[table].split(","))
        self.rows[table].append(values)
        return values

    def person(self, subject: int, sex: str = "F", age: int = 50, year: int = 2150) -> None:
        self.add("hosp/patients", subject_id=subject, gender=sex, anchor_age=age, anchor_year=year)

    def admission(self, subject: int, hadm: int, begin: str, end: str, **values: object) -> None:
        defaults = {"insurance": "Other", "race": "WHITE", "admission_type": "URGENT", "hospital_expire_flag": 0}
        self.add(
            "hosp/admissions",
            subject_id=subject,
            hadm_id=hadm,
            admittime=begin,
            dischtime=end,
            **(defaults | values),
        )

    def emergency(self, subject: int, stay: int, begin: str, hadm: object = "", race: str = "WHITE", **triage) -> None:
        """A stay with its row at triage, of usual values but those of `triage`."""
        self.add(
            "ed/edstays",
            subject_id=subject,
            hadm_id=hadm,
            stay_id=stay,
            intime=begin,
            outtime=begin,
            gender="F",
            race=race,
            arrival_transport="WALK IN",
        )
        usual = {"temperature": 98.6, "heartrate": 80, "resprate": 18, "o2sat": 98, "sbp": 120, "dbp": 70, "pain": "0"}
        usual |= {"acuity": 3, "chiefcomplaint": "Fall"}
        self.add("ed/triage", subject_id=subject, stay_id=stay, **(usual | triage))

    def write(self, folder: Path, tables: Iterable[str] = HEADERS) -> Path:
        for name in tables:
            path = folder / f"{name}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(path, "wt", newline="") as file:
                writer = csv.DictWriter(file, HEADERS[name].split(","), restval="")
                writer.writeheader()
                writer.writerows(self.rows[name])
        return folder


def values(dataset: Dataset, feature: str, records: Iterable[int]) -> list[float]:
    """Values of a feature, as standardised, of records."""
    rows = pd.Index(dataset.record).get_indexer([str(record) for record in records])
    assert (rows >= 0).all()
    return np.asarray(dataset.inputs)[rows, dataset.features.index(feature)].tolist()


def raw(dataset: Dataset, feature: str, record: int, known: dict[int, float]) -> float:
    """The value of a feature of a record before it was standardised, from two other records of known values."""
    wanted, first, second = values(dataset, feature, [record, *known])
    low, high = known.values()
    return low + (wanted - first) / (second - first) * (high - low)
