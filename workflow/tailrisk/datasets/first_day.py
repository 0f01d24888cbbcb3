"""Measurements of the first day of ICU stays, from tables too large for memory, as features of a table.

Tables of measurements hold up to 330 million rows, of which a few codes in a day a stay are wanted: they are read as a
stream of blocks, each of which is counted into minimum, mean and maximum. This takes minutes for a full release, so the
features are made when they are first asked for, and never for the groups or for a check.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike, NDArray
from pyarrow import csv

from tailrisk.config.base import suggestion
from tailrisk.datasets.encode import standardised
from tailrisk.errors import UserError

BLOCK = 1 << 24
"""Bytes of text read at a time."""
STATISTICS = ("min", "mean", "max")


@dataclass(frozen=True)
class Measure:
    """Something measured: the `codes` of a table that stand for it, and the range outside which a value is impossible.

    The codes of `fahrenheit` are temperatures that become degrees Celsius.
    """

    name: str
    low: float
    high: float
    codes: tuple[Any, ...]
    fahrenheit: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Deferred:
    """Inputs [N, F] of a table that `make` computes when NumPy asks for them (`np.asarray`), and not before."""

    shape: tuple[int, int]
    make: Callable[[], NDArray[np.float32]]

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of every table of inputs."""
        return np.dtype(np.float32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The inputs."""
        return self.make().astype(self.dtype if dtype is None else dtype, copy=False)


class Summary:
    """Number, sum, minimum and maximum of the possible values of `measures` in `n` stays."""

    def __init__(self, n: int, measures: Sequence[Measure]) -> None:
        self._measures = measures
        shape = (n, len(measures))
        self._count, self._sum = np.zeros(shape), np.zeros(shape)
        self._min, self._max = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._low = np.array([measure.low for measure in measures])
        self._high = np.array([measure.high for measure in measures])
        found = {
            code: (number, code in measure.fahrenheit)
            for number, measure in enumerate(measures)
            for code in (*measure.codes, *measure.fahrenheit)
        }
        self.codes = pa.array(list(found))
        self._number = np.array([number for number, _ in found.values()])
        self._fahrenheit = np.array([fahrenheit for _, fahrenheit in found.values()])

    def add(self, stay: NDArray[np.int64], code: NDArray[np.int64], value: NDArray[np.float64]) -> None:
        """Count in measurements [M]: row of the stay (-1 for none), place in `codes`, value (or NaN)."""
        value = np.where(self._fahrenheit[code], (value - 32) * 5 / 9, value)
        number = self._number[code]
        use = (stay >= 0) & (value >= self._low[number]) & (value <= self._high[number])
        at, value = (stay[use], number[use]), value[use]
        np.add.at(self._count, at, 1)
        np.add.at(self._sum, at, value)
        np.minimum.at(self._min, at, value)
        np.maximum.at(self._max, at, value)

    def features(self) -> NDArray[np.float32]:
        """Minimum, mean and maximum, standardised, and whether there was none, of every measure [n, 4 a measure].

        Without a measurement, all three are the medians of the stays that have one.
        """
        blocks = []
        missing = self._count == 0
        for number in range(len(self._measures)):
            none = missing[:, number]
            mean = self._sum[:, number] / np.maximum(self._count[:, number], 1)
            values = np.stack([self._min[:, number], mean, self._max[:, number]], axis=1)
            values[none] = np.median(values[~none], axis=0) if not none.all() else 0.0
            blocks += [standardised(values)[0], none[:, None].astype(np.float32)]
        return np.hstack(blocks)


def feature_names(measures: Sequence[Measure]) -> list[str]:
    """The names of the columns of `Summary.features`."""
    return [
        name
        for measure in measures
        for name in (*(f"{measure.name}_{statistic}" for statistic in STATISTICS), f"{measure.name} = missing")
    ]


def measurements(
    path: Path, columns: Mapping[str, pa.DataType], code: str, codes: pa.Array
) -> Iterator[dict[str, NDArray[Any]]]:
    """The columns, in parts, of the rows of a CSV file (also compressed) whose column `code` is one of `codes`.

    Of that column, the place in `codes` is given. Missing numbers are NaN or, of whole numbers, -1. UserError where a
    column is absent, or a cell is not of the type in `columns`.
    """
    parse = csv.ParseOptions(newlines_in_values=True)
    convert = csv.ConvertOptions(include_columns=list(columns), column_types=dict(columns), strings_can_be_null=True)
    try:
        with csv.open_csv(path, parse_options=parse) as reader:
            header = reader.schema.names
        for name in columns:
            if name not in header:
                raise UserError(f"{path} has no column '{name}'; {suggestion(name, header)}")
        options = csv.ReadOptions(block_size=BLOCK)
        with csv.open_csv(path, read_options=options, parse_options=parse, convert_options=convert) as reader:
            for block in reader:
                place = pc.index_in(block[code], value_set=codes)
                rows = pc.is_valid(place)
                part = {name: _plain(block[name].filter(rows)) for name in columns if name != code}
                yield part | {code: _plain(place.filter(rows)).astype(np.int64)}
    except FileNotFoundError:
        raise _absent(path) from None
    except (OSError, EOFError, pa.ArrowException) as error:
        # What follows the message of a parser may be a patient's row.
        reason = " ".join(str(error).split()).partition(": ")
        column = (
            reason[0] if reason[0].startswith("In CSV column") else "rows hold more or fewer values than the header"
        )
        raise UserError(f"{path} is not a readable table ({column}): fetch the file again") from None


def checksum(path: Path) -> str:
    """SHA-256 of a file; UserError where it does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise _absent(path) from None


def _absent(path: Path) -> UserError:
    return UserError(f"the table {path} does not exist: put it there, or correct the dataset's options")


def _plain(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_integer(column.type):
        column = pc.fill_null(column, -1)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def lookup(ids: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of `ids` [N] (each there once) at which `wanted` [M] stand; -1 for those that are not among them."""
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)
    row = order[place]
    return np.where(ids[row] == wanted, row, -1)
