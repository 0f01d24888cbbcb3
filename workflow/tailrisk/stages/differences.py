"""How two files that should be the same differ: tables value by value, all else byte by byte."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

MAKING = re.compile(rb'<section id="provenance">.*?</section>', re.DOTALL)
"""The part of the page that says when and where it was made."""


def difference(one: Path, other: Path) -> float | None:
    """None where the files are equal, else the largest relative difference of their numbers; infinite where what
    differs is no number.

    Tables are equal where their columns, types and stamps are, whichever version of the library wrote them; of the
    page, what it says of its making does not count.
    """
    if not other.is_file():
        return np.inf
    if one.suffix == ".parquet":
        return _tables(pq.ParquetFile(one).read(), pq.ParquetFile(other).read())
    first, second = one.read_bytes(), other.read_bytes()
    if one.suffix == ".html":
        first, second = MAKING.sub(b"", first, count=1), MAKING.sub(b"", second, count=1)
    if first == second:
        return None
    if one.suffix == ".json":
        return _values(json.loads(first), json.loads(second))
    return np.inf


def _tables(one: pa.Table, other: pa.Table) -> float | None:
    if one.schema.names != other.schema.names or one.schema.types != other.schema.types:
        return np.inf
    if one.num_rows != other.num_rows or one.schema.metadata != other.schema.metadata:
        return np.inf
    columns = ((one.column(name).combine_chunks(), other.column(name).combine_chunks()) for name in one.column_names)
    found = [_columns(first, second) for first, second in columns]
    return max((value for value in found if value is not None), default=None)


def _columns(one: pa.Array, other: pa.Array) -> float | None:
    """Of two columns [N] of one type; lists are equal where their lengths and all that is in them are."""
    if not one.is_null().equals(other.is_null()):
        return np.inf
    one, other = one.drop_null(), other.drop_null()
    if pa.types.is_dictionary(one.type):
        one, other = (column.cast(column.type.value_type) for column in (one, other))
    if pa.types.is_list(one.type) or pa.types.is_large_list(one.type) or pa.types.is_fixed_size_list(one.type):
        lengths = (pc.list_value_length(column) for column in (one, other))
        return _columns(one.flatten(), other.flatten()) if next(lengths).equals(next(lengths)) else np.inf
    if pa.types.is_floating(one.type):
        return _arrays(*(column.to_numpy(zero_copy_only=False) for column in (one, other)))
    if one.equals(other):
        return None
    return _integers(one, other) if pa.types.is_integer(one.type) else np.inf


def _integers(one: pa.Array, other: pa.Array) -> float:
    """Of two arrays [N] that differ, in exact arithmetic: large whole numbers are no floating-point numbers."""
    differing = pc.not_equal(one, other)
    pairs = zip(one.filter(differing).to_pylist(), other.filter(differing).to_pylist(), strict=True)
    return max(abs(x - y) / max(abs(x), abs(y)) for x, y in pairs)


def _arrays(one: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    """Of two arrays [N]: NaN equals NaN, and 0 does not equal −0."""
    same = ((one == other) & (np.signbit(one) == np.signbit(other))) | (np.isnan(one) & np.isnan(other))
    if same.all():
        return None
    x, y = one[~same].astype(np.float64), other[~same].astype(np.float64)
    if not (np.isfinite(x) & np.isfinite(y)).all():
        return np.inf
    scale = np.maximum(np.abs(x), np.abs(y))
    return float((np.abs(x - y) / np.where(scale > 0, scale, 1)).max())


def _values(one: Any, other: Any) -> float | None:
    """Of two values read from JSON that are not written alike."""
    pairs = list(zip(_leaves(one), _leaves(other), strict=False))
    if [where for (where, _), _ in pairs] != [where for _, (where, _) in pairs] or _size(one) != _size(other):
        return np.inf
    found: list[float] = []
    for (_, x), (_, y) in pairs:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (x, y))
        if numbers:
            value = _arrays(np.array([x], dtype=np.float64), np.array([y], dtype=np.float64))
            found += [] if value is None else [value]
        elif x != y:
            return np.inf
    return max(found, default=np.inf)


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, f"{where}/{key}")
    else:
        yield where, value


def _size(value: Any) -> int:
    return sum(1 for _ in _leaves(value))
