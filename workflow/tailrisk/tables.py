"""The Parquet tables between the stages: their schemas, and the only code that reads and writes them."""

import contextlib
import errno
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from tailrisk import __version__
from tailrisk.errors import UserError

SCHEMA_VERSION = 1

WRITE_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
}
"""Reasons that a table cannot be written for, by error number."""


class WriteError(OSError):
    """A fault of writing, told apart from a damaged file that is being read."""


def _schema(text: str) -> pa.Schema:
    types = {"str": pa.string(), "i16": pa.int16(), "i32": pa.int32(), "i64": pa.int64(), "f32": pa.float32()}
    types |= {"f64": pa.float64(), "bool": pa.bool_(), "cat": pa.dictionary(pa.int32(), pa.string())}
    fields = (column.split(":") for column in text.split())
    return pa.schema([pa.field(name, types[kind]) for name, kind in fields])


SCHEMAS: dict[str, pa.Schema] = {
    "records": _schema("record:str patient:str split:cat"),
    "excluded": _schema("record:str stage:cat reason:cat detail:str"),
    "duplicates": _schema(
        "record_a:str patient_a:str split_a:cat record_b:str patient_b:str split_b:cat kind:cat difference:f64 "
        "same_label:bool"
    ),
    "groups": _schema("record:str"),
    "chunk": _schema("query:cat model:i16 row:i32 member:bool confidence:f32"),
    "confidences": _schema("model:i16 row:i32 member:bool confidence:f32"),
    "performance": _schema("model:i16 split:cat metric:cat value:f64"),
    "audit_records": _schema(
        "record:str patient:str n_in:i32 n_out:i32 mean_in:f64 std_in:f64 mean_out:f64 std_out:f64 auc:f64 auc_se:f64 "
        "auc_low:f64 auc_high:f64 auc_empirical:f64 p_value:f64 auc_empirical_low:f64 auc_empirical_high:f64 "
        "auc_se_hanley_mcneil:f64 auc_likelihood_ratio:f64 tpr_at_fpr_1e2:f64 tpr_at_fpr_1e3:f64 normality_p:f64"
    ),
    "audit_patients": _schema(
        "patient:str n_records:i32 auc:f64 auc_mean:f64 auc_low:f64 auc_high:f64 p_value:f64 q_value:f64 "
        "auc_median_unbiased:f64 auc_empirical:f64 auc_joint:f64 joint_low:f64 joint_high:f64 joint_p:f64 joint_q:f64"
    ),
    "audit_survival": _schema("level:cat auc:f64 survival:f64 low:f64 high:f64 null:f64 debiased:f64"),
    "audit_models": _schema("n_models:i32 quantity:cat auc:f64 value:f64 low:f64 high:f64"),
    "audit_aggregate": _schema("attack:cat target_model:i16 fpr:f64 tpr:f64"),
    "audit_subgroups": _schema(
        "variable:cat group:str n:i64 share:f64 tail_n:i64 tail_expected:f64 tail_share:f64 relative_change:f64 "
        "residual:f64 statistic:f64 dof:i32 p_value:f64 p_clustered:f64 p_adjusted:f64 tail_expected_clustered:f64 "
        "unit:cat within:cat overlapping:bool residual_low:f64 residual_high:f64"
    ),
    "capacity": _schema(
        "experiment:str model:str capacity:i64 metric:cat performance:f64 performance_sd:f64 threshold:f64 "
        "patients:i64 n:i64 share:f64 low:f64 high:f64 expected_by_chance:f64 vulnerable:i64 certain:i64 debiased:i64 "
        "still_vulnerable:i64 newly_vulnerable:i64 no_longer_vulnerable:i64 mcnemar_p:f64"
    ),
    "stability": _schema(
        "experiment_a:str experiment_b:str differs:cat same_halves:bool n:i64 rank_correlation:f64 "
        "rank_correlation_expected:f64 tail_n:i64 tail_overlap:i64 tail_expected:f64 tail_p:f64 threshold:f64 "
        "vulnerable_a:i64 vulnerable_b:i64 vulnerable_both:i64 vulnerable_expected:f64"
    ),
    "compared_groups": _schema(
        "dataset:str experiment:str variable:cat group:str share:f64 tail_expected:f64 relative_change:f64 "
        "residual:f64 residual_low:f64 residual_high:f64"
    ),
    "meta": _schema(
        "dataset:str groups:i64 correlation:cat value:f64 baseline:cat null_mean:f64 null_low:f64 null_high:f64 "
        "p_value:f64"
    ),
    "access": _schema(
        "experiment:str query:str kind:cat threshold:f64 patients:i64 n:i64 share:f64 low:f64 high:f64 "
        "expected_by_chance:f64 vulnerable:i64 still_vulnerable:i64 newly_vulnerable:i64 certain:i64 debiased:i64 "
        "aggregate_auc:f64 rank_correlation:f64"
    ),
}
"""Columns of every table. Group variables may follow in `groups` and `audit_patients`, and `control` in `records`."""

LOSS = pa.field("loss", pa.float32())
"""−log p of the true label: a further column of `chunk` and `confidences` where it does not follow from confidence."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block succeeds and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno in WRITE_FAULTS and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write `array` as .npy, atomically."""
    write_blocks(path, array.shape, array.dtype, [array])


def write_blocks(path: Path, shape: tuple[int, ...], dtype: DTypeLike, blocks: Iterable[NDArray[Any]]) -> None:
    """Write `blocks` [n, ...], together of `shape`, as one .npy, atomically and without holding more than one.

    `numpy.save` loses the reason where a disk is full; a plain write keeps it.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, dtype=dtype).data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON that a stage wrote. UserError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the workflow again to make it") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it and run the workflow again") from None


def _stamp(kind: str, metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    values = {"schema": kind, "schema_version": SCHEMA_VERSION, "package_version": __version__, **metadata}
    return {f"tailrisk.{key}".encode(): json.dumps(value, sort_keys=True).encode() for key, value in values.items()}


def write_table(path: Path, kind: str, frame: pd.DataFrame, metadata: Mapping[str, Any] | None = None) -> None:
    """Write `frame` as the table `kind` (a key of SCHEMAS); further columns become dictionaries of strings, or lists
    of strings where their values are lists."""
    schema = SCHEMAS[kind]
    absent = [name for name in schema.names if name not in frame.columns]
    if absent:
        raise ValueError(f"table {kind} lacks the columns {absent}")
    extra = [name for name in frame.columns if name not in schema.names]
    for name in extra:
        schema = schema.append(pa.field(name, _further(frame[name])))
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    table = table.replace_schema_metadata(_stamp(kind, metadata or {}))
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _further(column: pd.Series) -> pa.DataType:
    if column.dtype == np.bool_:
        return pa.bool_()
    if column.dtype == object and column.map(lambda value: isinstance(value, list)).any():
        return pa.list_(pa.string())
    return SCHEMAS["records"].field("split").type


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[pq.ParquetFile]:
    """An open Parquet file of table `kind`, columns checked. UserError where it is missing, damaged or another."""
    try:
        with pq.ParquetFile(path) as file:
            absent = [name for name in SCHEMAS[kind].names if name not in file.schema_arrow.names]
            if absent:
                raise UserError(f"{path} lacks the column '{absent[0]}' of a {kind} table: delete it and run again")
            try:
                yield file
            except OSError as error:
                if error.errno in WRITE_FAULTS:  # of what the caller writes meanwhile
                    raise WriteError(error.errno, WRITE_FAULTS[error.errno], error.filename) from error
                raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the workflow again to make it") from None
    except WriteError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a readable Parquet file ({reason}): delete it and run again") from None


def read_table(path: Path, kind: str, columns: list[str] | None = None) -> pd.DataFrame:
    """The table `kind` at `path` (or some of its columns) as a DataFrame; lists stay lists."""
    with opened(path, kind) as file:
        table = file.read(columns=columns)
    frame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_list(field.type):
            frame[field.name] = pd.Series(table.column(field.name).to_pylist(), dtype=object)
    return frame


def metadata(path: Path, kind: str) -> dict[str, Any]:
    """What was stamped on the table at `path`: schema and package version, recipe, failed models, and the like."""
    with opened(path, kind) as file:
        stored = file.schema_arrow.metadata or {}
    prefix = b"tailrisk."
    return {key[len(prefix) :].decode(): json.loads(value) for key, value in stored.items() if key.startswith(prefix)}


class ConfidenceWriter:
    """Writes confidences one target model, one row group at a time, so that memory stays at one model."""

    def __init__(self, path: Path, kind: str, metadata: Mapping[str, Any], losses: bool = False) -> None:
        """Open `path` for the table `kind` (chunk or confidences), with the column `loss` where there are `losses`."""
        self._stack = contextlib.ExitStack()
        temporary = self._stack.enter_context(replacing(path))
        schema = SCHEMAS[kind].append(LOSS) if losses else SCHEMAS[kind]
        self._schema = schema.with_metadata(_stamp(kind, metadata))
        options: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": ["query", "model"] if "query" in self._schema.names else ["model"],
            "column_encoding": {"row": "DELTA_BINARY_PACKED", "confidence": "BYTE_STREAM_SPLIT"},
        }
        if losses:
            options["column_encoding"]["loss"] = "BYTE_STREAM_SPLIT"
        self._writer = self._stack.enter_context(pq.ParquetWriter(temporary, self._schema, **options))

    def __enter__(self) -> "ConfidenceWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(
        self,
        model: int,
        row: NDArray[np.int32],
        member: NDArray[np.bool_],
        confidence: NDArray[np.float32],
        query: str | None = None,
        loss: NDArray[np.float32] | None = None,
    ) -> None:
        """Append one model's answers to every audited row."""
        columns: dict[str, Any] = {
            "model": np.full(len(row), model, dtype=np.int16),
            "row": row,
            "member": member,
            "confidence": confidence,
            LOSS.name: loss,
        }
        if query is not None:
            index = pa.array(np.zeros(len(row), dtype=np.int32))
            columns["query"] = pa.DictionaryArray.from_arrays(index, pa.array([query]))
        table = pa.table([columns[name] for name in self._schema.names], schema=self._schema)
        self._writer.write_table(table, row_group_size=max(len(row), 1))


@dataclass(frozen=True)
class Confidences:
    """A confidence table as matrices: `models` [M], `rows` [N], `member` and `confidence` [M, N], and `loss` [M, N]
    where the table has losses."""

    models: NDArray[np.int16]
    rows: NDArray[np.int32]
    member: NDArray[np.bool_]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32] | None


def read_confidences(path: Path) -> Confidences:
    """Open a long confidence table as matrices, one row group (one model) at a time."""
    with opened(path, "confidences") as file:
        n_models, n_rows = (
            file.num_row_groups,
            file.metadata.row_group(0).num_rows if file.num_row_groups else 0,
        )
        models = np.empty(n_models, dtype=np.int16)
        member = np.empty((n_models, n_rows), dtype=bool)
        confidence = np.empty((n_models, n_rows), dtype=np.float32)
        loss = np.empty_like(confidence) if LOSS.name in file.schema_arrow.names else None
        rows = np.empty(0, dtype=np.int32)
        for group in range(n_models):
            table = file.read_row_group(group)
            model, row = table.column("model").to_numpy(), table.column("row").to_numpy()
            if group == 0:
                rows = row
            if len(set(model.tolist())) != 1 or not np.array_equal(row, rows):
                raise UserError(f"{path}: row group {group} does not hold one model's answers to the same rows")
            models[group] = model[0]
            member[group] = table.column("member").to_numpy(zero_copy_only=False)
            confidence[group] = table.column("confidence").to_numpy()
            if loss is not None:
                loss[group] = table.column("loss").to_numpy()
    return Confidences(models, rows, member, confidence, loss)
