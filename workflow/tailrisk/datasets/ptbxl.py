"""PTB-XL: 21,799 12-lead ECGs of 10 seconds from 18,869 patients (Wagner et al., Scientific Data 2020)."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import PtbXl
from tailrisk.datasets.contract import Dataset, Files, first
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need
from tailrisk.datasets.waveforms import Wanted, waveform
from tailrisk.errors import UserError

TABLE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
SUPERCLASSES = ["NORM", "MI", "STTC", "CD", "HYP"]
LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SECONDS = 10
VALIDATION_FOLD, TEST_FOLD = 9, 10
COMPLETE = ["ecg_id", "patient_id", "scp_codes"]
OPTIONAL = ["sex", "age", "extra_beats"]
STATEMENT, DIAGNOSTIC = "", ["diagnostic", "diagnostic_class"]
"""Columns of the table of statements; the first has no name."""
EXPECTED = {
    "rows": 21_799,
    "records": 21_799,
    "patients": 18_869,
    "class NORM": 9_514,
    "class MI": 5_469,
    "class STTC": 5_235,
    "class CD": 4_898,
    "class HYP": 2_649,
}
"""Of version 1.0.3."""


def needs(spec: PtbXl) -> list[Need]:
    """Both tables, and the folder of the signals at the chosen rate."""
    folder = Path(spec.path)
    return [
        Need(folder / TABLE, tuple(_columns(spec))),
        Need(folder / STATEMENTS, (STATEMENT, *DIAGNOSTIC)),
        Need(folder / f"records{spec.rate}"),
    ]


def read(spec: PtbXl) -> Dataset:
    """One record an ECG, labelled with the superclasses of its diagnostic statements, whatever their likelihood.

    An ECG can have several superclasses or none. Signals stay in millivolts, as in the paper.
    """
    folder = Path(spec.path)
    path = folder / TABLE
    complete = [name for name in _columns(spec) if name not in OPTIONAL]
    table, checksum = label_table(path, complete=complete, optional=OPTIONAL)
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
        inputs=_signals(folder, table[_file_column(spec)].tolist(), spec.rate),
        labels=labels,
        groups=_groups(table, labels, path),
        features=LEADS,
        licence=spec.terms,
        preprocessing=f"Millivolts at {spec.rate} samples per second.",
        where=str(path),
        split=_split(table, path) if spec.splits == "official" else None,
        checksums={TABLE: checksum, STATEMENTS: statements_checksum},
        expected=EXPECTED,
    )


def _file_column(spec: PtbXl) -> str:
    return "filename_lr" if spec.rate == 100 else "filename_hr"


def _columns(spec: PtbXl) -> list[str]:
    """The columns that are read of the table of ECGs."""
    return [*COMPLETE, _file_column(spec), *(["strat_fold"] if spec.splits == "official" else []), *OPTIONAL]


def _superclasses(path: Path) -> tuple[dict[str, str | None], str]:
    """Superclass of every statement, None of those that are not diagnostic; and the checksum of the table."""
    table, checksum = label_table(path, complete=[STATEMENT], optional=DIAGNOSTIC)
    diagnostic = pd.to_numeric(table["diagnostic"], errors="coerce") == 1
    refuse(
        path,
        diagnostic & ~table["diagnostic_class"].isin(SUPERCLASSES),
        f"column 'diagnostic_class' is none of {', '.join(SUPERCLASSES)}",
    )
    classes = table["diagnostic_class"].where(diagnostic, None)
    return dict(zip(table[STATEMENT], classes, strict=True)), checksum


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
    wanted = Wanted(LEADS, SECONDS * rate, rate, ["mV"] * len(LEADS))
    shape = (len(LEADS), SECONDS * rate)
    return Files(paths, partial(waveform, wanted=wanted), shape, np.float32, "signals", workers="processes")


def _split(table: pd.DataFrame, path: Path) -> NDArray[np.object_]:
    """The source's split [N]: no patient is in two of its ten folds."""
    fold = pd.to_numeric(table["strat_fold"], errors="coerce")
    refuse(path, ~fold.isin(range(1, 11)), "column 'strat_fold' is not a whole number from 1 to 10")
    return np.select([fold == VALIDATION_FOLD, fold == TEST_FOLD], ["validation", "test"], "audit").astype(object)


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
