"""The store: where every finished target model's answers lie until they are gathered (design §5).

`<root>/<hash of recipe and data>/<model>/` holds one `<query hash>.parquet` a query and `performance.json`, which is
written last: a model without it is not finished.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError

from tailrisk.config.base import canonical
from tailrisk.tables import replacing, write_json

log = logging.getLogger(__name__)

SCHEMA = pa.schema([pa.field("row", pa.int32()), pa.field("confidence", pa.float32())])


@dataclass(frozen=True)
class Finished:
    """What is known of a finished model besides its answers. `machine` and `seconds` are recorded, never keyed.

    `reason` says why a model failed, and is None for one that did not; `performance` lists [split, metric, value];
    `steps` counts the steps behind the kept weights; `seconds` is its share of its stack's wall time.
    """

    reason: str | None
    capacity: int
    performance: list[tuple[str, str, float]]
    steps: int
    seconds: float
    machine: dict[str, str]


_finished = TypeAdapter(Finished)


class Store:
    """The finished models of one recipe on one state of the data."""

    def __init__(self, root: Path, recipe: BaseModel, data_hash: str) -> None:
        self._folder = root / hashlib.sha256(f"{canonical(recipe)}\0{data_hash}".encode()).hexdigest()[:32]

    def put(
        self,
        model: int,
        rows: NDArray[np.int32],
        answers: Sequence[tuple[BaseModel, NDArray[np.float32]]],
        finished: Finished,
    ) -> None:
        """Keep a model's answers to each query on `rows`, then the note that it is finished."""
        for query, confidence in answers:
            table = pa.table([rows, confidence], schema=SCHEMA)
            with replacing(self._answers(model, query)) as temporary:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        status = "done" if finished.reason is None else "failed"
        write_json(self._note(model), {"status": status, **asdict(finished)})

    def finished(self, model: int) -> Finished | None:
        """The note of a finished model; None where there is none or it is damaged."""
        path = self._note(model)
        try:
            return _finished.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            log.warning("%s is damaged and will be made again", path)
            return None

    def answers(self, model: int, query: BaseModel, rows: NDArray[np.int32]) -> NDArray[np.float32] | None:
        """A model's confidences for `rows`; None where there are none, or the file is damaged."""
        path = self._answers(model, query)
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError):
            table = None
        if table is None or table.schema != SCHEMA or not np.array_equal(table.column("row").to_numpy(), rows):
            log.warning("%s is damaged and will be made again", path)
            return None
        confidence: NDArray[np.float32] = table.column("confidence").to_numpy()
        return confidence

    def _note(self, model: int) -> Path:
        return self._folder / str(model) / "performance.json"

    def _answers(self, model: int, query: BaseModel) -> Path:
        name = hashlib.sha256(canonical(query).encode()).hexdigest()[:16]
        return self._folder / str(model) / f"{name}.parquet"


def served(store: Store, model: int, queries: Sequence[BaseModel], rows: NDArray[np.int32]) -> bool:
    """Whether a model needs no training: it failed before, or every query has its answer."""
    note = store.finished(model)
    if note is None:
        return False
    return note.reason is not None or all(store.answers(model, query, rows) is not None for query in queries)
