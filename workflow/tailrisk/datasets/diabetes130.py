"""Diabetes 130-US hospitals 1999-2008 (UCI 296; Strack et al., BioMed Research International 2014)."""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.sources import Diabetes130
from tailrisk.datasets.columns import ids, numbers
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.encode import encode
from tailrisk.datasets.labels import refuse
from tailrisk.datasets.needs import Need
from tailrisk.errors import UserError

TABLE = "diabetic_data.csv"
NUMERIC = [
    "time_in_hospital",
    "num_lab_procedures",
    "num_procedures",
    "num_medications",
    "number_outpatient",
    "number_emergency",
    "number_inpatient",
    "number_diagnoses",
]
DIAGNOSES = ["diag_1", "diag_2", "diag_3"]
CHAPTERS = {
    "diabetes": [(250, 251)],
    "circulatory": [(390, 460), (785, 786)],
    "respiratory": [(460, 520), (786, 787)],
    "digestive": [(520, 580), (787, 788)],
    "genitourinary": [(580, 630), (788, 789)],
    "neoplasms": [(140, 240)],
    "musculoskeletal": [(710, 740)],
    "injury": [(800, 1000)],
}
CODE = r"[EV]?\d+(?:\.\d*)?"
NOT_FEATURES = {"encounter_id", "patient_nbr", "readmitted", *NUMERIC, *DIAGNOSES}
NEEDED = ["encounter_id", "patient_nbr", "readmitted", "race", "gender", "age", "payer_code", *NUMERIC, *DIAGNOSES]


def needs(spec: Diabetes130) -> list[Need]:
    """The table where it is unpacked; else whatever is at `path`, which `read` looks into."""
    path = Path(spec.path)
    table = path / TABLE if path.is_dir() else path
    return [Need(table, tuple(NEEDED))] if table.suffix == ".csv" and table.exists() else [Need(path)]


def read(spec: Diabetes130) -> Dataset:
    """101,766 encounters of 71,518 patients. Missing values are `?`; `None` is a level of two laboratory columns."""
    content, where = _content(Path(spec.path))
    checksum = hashlib.sha256(content).hexdigest()
    if spec.sha256 and checksum != spec.sha256:
        raise UserError(f"{where} has the SHA-256 {checksum}, not the configured one: fetch the file again")
    try:
        table = pd.read_csv(io.BytesIO(content), na_values="?", keep_default_na=False, dtype=str)
    except ValueError as error:
        raise UserError(f"{where} is not a readable table: {' '.join(str(error).split())}") from None
    absent = [name for name in NEEDED if name not in table]
    if absent:
        raise UserError(f"{where} lacks the column '{absent[0]}': is it the table {TABLE} of UCI 296?")
    named = Path(where)
    known = table["readmitted"].isin(["NO", ">30", "<30"])
    refuse(named, ~known, "column 'readmitted' is neither NO, >30 nor <30")
    for name in ("encounter_id", "patient_nbr"):
        table[name] = ids(named, table, name)
    for name in NUMERIC:
        table[name] = numbers(named, table, name)
    for name in DIAGNOSES:
        code = table[name].str.fullmatch(CODE, na=False).astype(bool)
        refuse(named, table[name].notna() & ~code, f"column '{name}' is neither a code of ICD-9 nor ?")
        table[name] = table[name].map(chapter, na_action="ignore")
    categorical = DIAGNOSES + [name for name in table.columns if name not in NOT_FEATURES]
    inputs, features = encode(table, NUMERIC, categorical, level_of_missing="missing")
    early = table["readmitted"].eq("<30") if spec.target == "early" else table["readmitted"].ne("NO")
    return Dataset(
        title="Diabetes 130-US hospitals 1999-2008",
        task="binary",
        classes=["other", "readmitted within 30 days"] if spec.target == "early" else ["never", "readmitted"],
        record=table["encounter_id"].to_numpy(object),
        patient=table["patient_nbr"].to_numpy(object),
        inputs=inputs,
        labels=early.to_numpy(np.int64),
        groups=_groups(table),
        features=features,
        licence=spec.terms,
        preprocessing="Numbers standardised over all records; one indicator per level of a category, missing values "
        "a level of their own; ICD-9 codes of the three diagnoses grouped as by Strack et al.",
        where=where,
        checksums={TABLE: checksum},
    )


def _content(path: Path) -> tuple[bytes, str]:
    """The bytes of the encounter table from the file, folder or archive at `path`, and how to call it."""
    if not path.exists():
        raise UserError(
            f"the diabetes130 source {path} does not exist: put the file there, correct `path`, or run the "
            "workflow's rule `download`"
        )
    if path.is_dir():
        found = sorted(path.rglob(TABLE)) or sorted(path.rglob("*.zip"))
        if not found:
            raise UserError(f"the folder {path} holds neither {TABLE} nor a zip archive")
        path = found[0]
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                members = [name for name in archive.namelist() if name.endswith(TABLE)]
                if not members:
                    raise UserError(f"the archive {path} does not hold {TABLE}")
                return archive.read(members[0]), f"{path}:{members[0]}"
        except zipfile.BadZipFile:
            raise UserError(f"{path} is not a readable zip archive: fetch it again") from None
    return path.read_bytes(), str(path)


def chapter(code: str) -> str:
    """Group of an ICD-9 code as in Strack et al. 2014, table 2."""
    if code.startswith(("E", "V")):
        return "other"
    number = float(code)
    for name, ranges in CHAPTERS.items():
        if any(low <= number < high for low, high in ranges):
            return name
    return "other"


def _groups(table: pd.DataFrame) -> pd.DataFrame:
    payer = {"MC": "Medicare", "MD": "Medicaid", "SP": "self-pay"}
    return pd.DataFrame(
        {
            "race": table["race"],
            "sex": table["gender"].where(table["gender"].isin(["Female", "Male"])),
            "age": table["age"].str.strip("[)").str.replace("-", " to under ", regex=False),
            "payer": table["payer_code"].map(lambda code: payer.get(code, "private or other"), na_action="ignore"),
            "readmission": table["readmitted"].map({"NO": "none", ">30": "later", "<30": "within 30 days"}),
        }
    )
