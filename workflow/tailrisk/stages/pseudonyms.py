"""Tables without identifiers: ids replaced by numbers of the same order, on which every result comes out the same."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailrisk.errors import UserError
from tailrisk.tables import opened, read_table

PREFIXES = {"record": "r", "patient": "p"}


class Pseudonyms:
    """Replaces the ids of the records and patients of one dataset by their ranks in the order of the ids.

    What the analysis computes depends on that order (of patients in tables, and of what breaks ties) but on no id.
    """

    def __init__(self, records: Path) -> None:
        """records: the records.parquet that lists all of the dataset."""
        table = read_table(records, "records", list(PREFIXES))
        self._ids = {name: np.unique(table[name].to_numpy(dtype=str)) for name in PREFIXES}

    def replaced(self, path: Path) -> bytes:
        """The Parquet file at `path` with the columns `record` and `patient` replaced, as the bytes of another one.

        UserError where it is damaged or has an id that the dataset has not.
        """
        with opened(path, "audit_patients" if path.name == "patients.parquet" else "groups") as file:
            table = file.read()
        for name in PREFIXES.keys() & set(table.column_names):
            ranks = pd.Index(self._ids[name]).get_indexer(table.column(name).to_pylist())
            if (ranks < 0).any():
                raise UserError(f"{path} has a {name} that its dataset has not: run the workflow again before packing")
            place = table.column_names.index(name)
            table = table.set_column(place, table.schema.field(name), pa.array(_numbered(name, ranks, self._ids[name])))
        written = io.BytesIO()
        pq.write_table(table, written, compression="zstd")
        return written.getvalue()


def _numbered(name: str, ranks: NDArray[np.intp], ids: Sequence[str] | NDArray[np.str_]) -> list[str]:
    """Ranks as text of equal length, so that they sort as numbers do."""
    width = len(str(len(ids)))
    return [f"{PREFIXES[name]}{rank:0{width}d}" for rank in ranks]
