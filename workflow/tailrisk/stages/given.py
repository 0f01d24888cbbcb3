"""A confidence table from elsewhere: read, checked, and written as the gather stage would have written it."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from tailrisk.config.base import suggestion
from tailrisk.config.plan import GIVEN_QUERY
from tailrisk.config.sources import RESERVED
from tailrisk.config.study import MOST_MODELS, Tables
from tailrisk.errors import UserError
from tailrisk.tables import LOSS, ConfidenceWriter, write_table

LARGEST = 1e9  # of a confidence or loss, so that squares of their sums stay numbers
ROUNDING = 1e-4  # below which a negative loss is that of a probability rounded to a little over 1


def given(spec: Tables, confidences: Path, folder: Path) -> list[str]:
    """Write the confidence table at `confidences`, and records and groups.parquet into `folder`; returns what to tell.

    Rows are numbered anew, in the order of the given ones, so that a row is again an index of records.parquet.
    UserError names file, column and row of the first fault.
    """
    path = Path(spec.confidences)
    scores = _read(path, ["model", "row", "member", "confidence"], optional=[LOSS.name])
    model, row = _integers(path, scores, "model", MOST_MODELS), _integers(path, scores, "row", 2**31 - 1)
    member, values = _booleans(path, scores, "member"), _numbers(path, scores, "confidence")
    loss = _numbers(path, scores, LOSS.name) if LOSS.name in scores.column_names else None
    if loss is not None and (loss < -ROUNDING).any():
        raise UserError(f"{path}: column 'loss' is negative{_line(loss < -ROUNDING)}: it is −log p of the true label")
    models, rows = np.unique(model), np.unique(row)
    step, further = np.diff(model), np.diff(row)
    if not ((step > 0) | ((step == 0) & (further > 0))).all():
        order = np.lexsort((row, model))
        model, row, member, values = model[order], row[order], member[order], values[order]
        loss = None if loss is None else loss[order]
    shape = (models.size, rows.size)
    if model.size != models.size * rows.size or not (row.reshape(shape) == rows).all():
        raise UserError(f"{path}: {_incomplete(models, rows, model, row)}; every model needs one line per record")
    records, told = _records(Path(spec.records), rows)
    groups = _groups(spec.groups, records)
    write_table(folder / "records.parquet", "records", records.assign(split="audit"))
    write_table(folder / "groups.parquet", "groups", groups)
    sources = [path, Path(spec.records), *([Path(spec.groups)] if spec.groups else [])]
    stamp = {"query": GIVEN_QUERY, "n_models": int(models.size), "failed": {}, "checksums": _checksums(sources)}
    numbers = np.arange(rows.size, dtype=np.int32)
    with ConfidenceWriter(confidences, "confidences", stamp, losses=loss is not None) as writer:
        for slot, number in enumerate(models):
            part = slice(slot * rows.size, (slot + 1) * rows.size)
            losses = None if loss is None else np.maximum(loss[part], 0)
            writer.add(int(number), numbers, member[part], values[part], loss=losses)
    return told


def _read(path: Path, columns: list[str], optional: list[str]) -> pa.Table:
    try:
        if path.suffix in {".parquet", ".pq"}:
            table = pa.parquet.read_table(path)
        else:
            text = {name: pa.string() for name in ("record", "patient") if name in columns}
            options = pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True, null_values=[""])
            table = pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"cannot read the table {path}: {' '.join(str(error).split())}") from None
    for name in columns:
        if name not in table.column_names:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, table.column_names)}")
        if table.column_names.count(name) > 1:
            raise UserError(f"{path} has several columns '{name}': name or remove the others")
        if name in ("record", "patient") and pa.types.is_floating(table.schema.field(name).type):
            raise UserError(f"{path}: column '{name}' holds numbers with a fraction: give ids as text or whole numbers")
    if table.num_rows == 0:
        raise UserError(f"{path} has no rows")
    table = table.select([name for name in [*columns, *optional] if name in table.column_names])
    for name in table.column_names:
        if table.column(name).null_count:
            blank = table.column(name).is_null().to_numpy(zero_copy_only=False)
            raise UserError(f"{path}: column '{name}' is blank{_line(blank)}")
    return table


def _line(wrong: NDArray[np.bool_]) -> str:
    return f" in row {int(np.argmax(wrong)) + 1}"


def _numbers(path: Path, table: pa.Table, name: str) -> NDArray[np.float32]:
    kind = table.schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UserError(f"{path}: column '{name}' holds {kind} values: give numbers")
    values = table.column(name).to_numpy()
    if not np.isfinite(values).all():
        raise UserError(f"{path}: column '{name}' is not finite{_line(~np.isfinite(values))}")
    if (np.abs(values) > LARGEST).any():
        raise UserError(f"{path}: column '{name}' is beyond ±{LARGEST:g}{_line(np.abs(values) > LARGEST)}")
    return np.asarray(values, dtype=np.float32)


def _integers(path: Path, table: pa.Table, name: str, largest: int) -> NDArray[np.int32]:
    kind = table.schema.field(name).type
    if not pa.types.is_integer(kind):
        raise UserError(f"{path}: column '{name}' holds {kind} values: give whole numbers")
    values = table.column(name).to_numpy()
    wrong = (values < 0) | (values > largest)
    if wrong.any():
        raise UserError(f"{path}: column '{name}' is not between 0 and {largest}{_line(wrong)}")
    return np.asarray(values, dtype=np.int32)


def _booleans(path: Path, table: pa.Table, name: str) -> NDArray[np.bool_]:
    column = table.column(name)
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=bool)
    if pa.types.is_integer(column.type):
        values = column.to_numpy()
        if np.isin(values, (0, 1)).all():
            return values.astype(bool)
    raise UserError(f"{path}: column '{name}' must be true or false, or 1 or 0")


def _incomplete(
    models: NDArray[np.int32], rows: NDArray[np.int32], model: NDArray[np.int32], row: NDArray[np.int32]
) -> str:
    """Which model lacks a row or has it twice."""
    for number in models:
        own = row[model == number]
        missing = np.setdiff1d(rows, own)
        if missing.size:
            return f"model {number} has no confidence for row {missing[0]}, which other models have"
        if own.size > rows.size:
            values, counts = np.unique(own, return_counts=True)
            return f"model {number} has row {values[np.argmax(counts > 1)]} more than once"
    raise AssertionError("a complete table")


def _records(path: Path, rows: NDArray[np.int32]) -> tuple[pd.DataFrame, list[str]]:
    """Record and patient of each row of the table, in its order."""
    table = _read(path, ["row", "record", "patient"], optional=[])
    row = _integers(path, table, "row", 2**31 - 1)
    for name in ("row", "record"):
        values = pd.Series(table.column(name).to_pylist())
        if values.duplicated().any():
            raise UserError(
                f"{path}: column '{name}' holds a value a second time{_line(values.duplicated().to_numpy())}"
            )
    frame = pd.DataFrame({name: map(str, table.column(name).to_pylist()) for name in ("record", "patient")}, index=row)
    missing = np.setdiff1d(rows, row)
    if missing.size:
        raise UserError(f"{path} lacks row {missing[0]}, for which there are confidences: add its record and patient")
    left = row.size - rows.size
    told = [f"{left} of {row.size} records in {path} have no confidences and are not audited"] if left else []
    return frame.loc[rows].reset_index(drop=True), told


def _groups(given: str | None, records: pd.DataFrame) -> pd.DataFrame:
    """One row per audited record; values as text, or lists of text; unknown stays missing."""
    if given is None:
        return records[["record"]]
    path = Path(given)
    try:
        parquet = path.suffix in {".parquet", ".pq"}
        table = pa.parquet.read_table(path).to_pandas() if parquet else _text(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"cannot read the table {path}: {' '.join(str(error).split())}") from None
    if "record" not in table:
        raise UserError(f"{path} has no column 'record'; {suggestion('record', map(str, table.columns))}")
    reserved = sorted(RESERVED.intersection(map(str, table.columns)) - {"record"})
    if reserved:
        raise UserError(
            f"{path}: a group column cannot be called '{reserved[0]}', a column of the audit's own: rename it"
        )
    table = table.assign(record=table["record"].astype(str))
    if table["record"].duplicated().any():
        raise UserError(f"{path} names a record twice{_line(table['record'].duplicated().to_numpy())}")
    missing = ~records["record"].isin(table["record"])
    if missing.any():
        raise UserError(
            f"{path} has no row for {int(missing.sum())} of the {len(records)} audited records: add them, with empty "
            "values where a group is unknown"
        )
    table = table.set_index("record").loc[records["record"]].reset_index()
    for name in table.columns.drop("record"):
        values = table[name]
        if values.map(lambda value: isinstance(value, list | np.ndarray)).any():
            table[name] = values.map(lambda value: None if value is None else [str(one) for one in value])
        else:
            table[name] = values.astype(str).where(values.notna()).astype("category")
    return table


def _text(path: Path) -> pd.DataFrame:
    """A CSV file as text, in which only an empty field is a missing value: "None" and "NA" may be groups."""
    return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])


def _checksums(paths: list[Path]) -> dict[str, str]:
    found = {}
    for path in paths:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
