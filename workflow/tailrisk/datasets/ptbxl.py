"""PTB-XL: 21,799 12-lead ECGs of 10 seconds from 18,869 patients (Wagner et al., Scientific Data 2020)."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb
from numpy.typing import NDArray

from tailrisk.config.sources import PtbXl
from tailrisk.datasets.contract import Dataset, Files, first
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.errors import UserError

TABLE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SECONDS = 10
STEPS = 1000
"""Steps of the signals a millivolt."""


def read(spec: PtbXl) -> Dataset:
    """One record an ECG, labelled with the superclasses of its diagnostic statements, whatever their likelihood.

    An ECG can have several superclasses or none. Signals stay in millivolts, as in the paper.
    """
    folder = Path(spec.path)
    path = folder / TABLE
    names = "filename_lr" if spec.rate == 100 else "filename_hr"
    table, checksum = label_table(
        path, complete=["ecg_id", "patient_id", "scp_codes", names], optional=["sex", "age", "extra_beats"]
    )
    # The source writes patients as floating-point numbers, such as 15709.0.
    whole = table["patient_id"].str.fullmatch(r"\d+(\.0*)?")
    refuse(path, ~whole, "column 'patient_id' is not a whole number")
    superclass, statements_checksum = _superclasses(folder / STATEMENTS)
    labels = _labels(table["scp_codes"], superclass, path)
    return Dataset(
        title="PTB-XL",
        task="multilabel",
        classes=SUPERCLASSES,
        record=table["ecg_id"].to_numpy(object),
        patient=table["patient_id"].str.partition(".")[0].to_numpy(object),
        inputs=_signals(folder, table[names].tolist(), spec.rate),
        labels=labels,
        groups=_groups(table, labels, path),
        features=LEADS,
        licence=spec.terms,
        preprocessing=f"None: millivolts at {spec.rate} samples per second.",
        where=str(path),
        checksums={TABLE: checksum, STATEMENTS: statements_checksum},
    )


def _superclasses(path: Path) -> tuple[dict[str, str | None], str]:
    """Superclass of every statement, None of those that are not diagnostic; and the checksum of the table."""
    table, checksum = label_table(path, complete=[""], optional=["diagnostic", "diagnostic_class"])
    diagnostic = pd.to_numeric(table["diagnostic"], errors="coerce") == 1
    refuse(
        path,
        diagnostic & ~table["diagnostic_class"].isin(SUPERCLASSES),
        f"column 'diagnostic_class' is none of {', '.join(SUPERCLASSES)}",
    )
    classes = table["diagnostic_class"].where(diagnostic, None)
    return dict(zip(table[""], classes, strict=True)), checksum


def _labels(codes: pd.Series, superclass: dict[str, str | None], path: Path) -> NDArray[np.float32]:
    """Superclasses [N, 5] of every ECG from its statements, the text of a dictionary {statement: likelihood}."""
    statements = codes.map(_statements)
    refuse(path, statements.isna(), "column 'scp_codes' is not a dictionary of statements")
    unknown = sorted({code for found in statements for code in found} - superclass.keys())
    if unknown:
        raise UserError(f"{path}: column 'scp_codes' has statements that {STATEMENTS} lacks: {first(unknown)}")
    return np.array(
        [[name in {superclass[code] for code in found} for name in SUPERCLASSES] for found in statements],
        dtype=np.float32,
    )


def _statements(text: str) -> list[str] | None:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return [str(code) for code in found] if isinstance(found, dict) else None


def _signals(folder: Path, names: list[str], rate: int) -> Files:
    """Signals [N, 12, samples] in millivolts of the WFDB records `names`, given without a suffix."""
    paths = [folder / f"{name}.hea" for name in names]
    if not any(path.is_file() for path in paths):
        raise UserError(
            f"none of the {len(names):,} signals at {rate} samples per second is in {folder}, such as {names[0]}.hea: "
            f"fetch them, or set `rate` to {600 - rate}"
        )
    # Processes, as most of the time goes into wfdb's parsing of headers, in Python.
    shape = (len(LEADS), SECONDS * rate)
    return Files(paths, partial(signal, rate=rate), shape, np.float32, "signals", workers="processes")


def signal(file: Path, rate: int) -> NDArray[np.float32]:
    """One ECG [12, samples] in millivolts from the WFDB record of a header; UserError where it is damaged or not as
    announced, FileNotFoundError where it or its signals are missing."""
    try:
        record = wfdb.rdrecord(str(file.with_suffix("")), physical=False)
        sound = record.checksum == record.calc_checksum()
        usual = record.sig_name == LEADS and set(record.units) == {"mV"} and set(record.adc_gain) == {STEPS}
        millivolts = record.dac(return_res=32)
    except FileNotFoundError:
        raise
    except Exception as error:  # wfdb raises whatever its parser stumbles on
        raise UserError(f"not a readable WFDB record: {' '.join(str(error).split())}") from None
    if not sound:
        raise UserError("its samples do not agree with the checksum in its header")
    if not usual:
        raise UserError(f"its leads are not I to V6 in the usual order at {STEPS} steps a millivolt")
    if record.fs != rate or len(millivolts) != SECONDS * rate:
        raise UserError(f"not {SECONDS} seconds at {rate} samples per second")
    if np.isnan(millivolts).any():
        raise UserError(f"lead {LEADS[int(np.isnan(millivolts).any(axis=0).argmax())]} has samples without a value")
    return np.asarray(millivolts.T)


def _groups(table: pd.DataFrame, labels: NDArray[np.float32], path: Path) -> pd.DataFrame:
    single = np.array(SUPERCLASSES, dtype=object)[labels.argmax(axis=1)]
    count = labels.sum(axis=1)
    return pd.DataFrame(
        {
            "sex": table["sex"].map({"0": "male", "1": "female"}),
            "age": age_bands(path, table, "age"),  # 300 stands for over 89
            "extra_beats": np.where(table["extra_beats"].isna(), "none", "present"),
            "superclass": np.select([count == 0, count == 1], ["none", single], "several"),
        }
    )
