"""The store: where every finished target model's answers lie until they are gathered (design §5).

`<root>/<hash of recipe and data>/<model>/` holds one `<query hash>.parquet` a query and `performance.json`, which is
written last: a model without it is not finished. `weights.pt` is there where weights are kept, and `checkpoint.pt`
while a training is under way.
"""

import logging
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError
from torch import Tensor

from tailrisk.config.base import canonical
from tailrisk.tables import replacing, write_json
from tailrisk.training import places
from tailrisk.training.engine import Saved

log = logging.getLogger(__name__)


class Answers(NamedTuple):
    """What models said about some records: confidences [..., N], and losses [..., N] where these do not follow from
    the confidences (several labels)."""

    confidence: NDArray[np.float32]
    loss: NDArray[np.float32] | None = None

    def of(self, slot: int) -> "Answers":
        """The answers of one of several models."""
        return Answers(self.confidence[slot], None if self.loss is None else self.loss[slot])

    @property
    def finite(self) -> bool:
        """Whether every answer is a number."""
        return all(np.isfinite(values).all() for values in self if values is not None)

    def equal(self, other: "Answers") -> bool:
        """Whether all answers are the same."""
        return all(np.array_equal(a, b) for a, b in zip(self, other, strict=True) if a is not None and b is not None)


def _schema(several_labels: bool) -> pa.Schema:
    names = ["confidence", "loss"] if several_labels else ["confidence"]
    return pa.schema([pa.field("row", pa.int32()), *(pa.field(name, pa.float32()) for name in names)])


@dataclass(frozen=True)
class Finished:
    """What is known of a finished model besides its answers. `machine` and `seconds` are recorded, never keyed.

    `reason` says why a model failed, and is None for one that did not; `performance` lists [split, metric, value];
    `steps` counts the steps behind the kept weights; `seconds` is its share of its stack's wall time; `retried` says
    that its loss was not finite at the recipe's learning rate, and that these are the answers at the lower one.
    """

    reason: str | None
    capacity: int
    performance: list[tuple[str, str, float]]
    steps: int
    seconds: float
    machine: dict[str, str]
    retried: bool = False


_finished = TypeAdapter(Finished)


class Store:
    """The finished models of one recipe on one state of the data; several_labels: answers come with their loss."""

    def __init__(self, root: Path, recipe: BaseModel, data_hash: str, several_labels: bool = False) -> None:
        self._schema = _schema(several_labels)
        self._folder = places.folder(root, canonical(recipe), data_hash)

    def put(
        self,
        model: int,
        rows: NDArray[np.int32],
        answers: Sequence[tuple[BaseModel, Answers]],
        finished: Finished,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        """Keep a model's answers to each query on `rows`, its weights if given, then the note that it is finished.

        Answers that are there already stay where the model, trained again, gives the same. Where it does not, as on
        other hardware, they are those of another model and go: all answers of a number come from one model. The
        checkpoint, if there was one, is no longer needed.
        """
        there = [(self.answers(model, query, rows), new) for query, new in answers]
        if any(old is not None and not old.equal(new) for old, new in there):
            log.warning(
                "target model %d, trained again on this machine or library, is not the one that was stored: all its "
                "answers are replaced",
                model,
            )
            self._note(model).unlink(missing_ok=True)
            for path in self._note(model).parent.glob("*.parquet"):
                path.unlink()
        self.add(model, rows, answers)
        if weights is not None:
            _save(self._path(model, "weights.pt"), weights)
        status = "done" if finished.reason is None else "failed"
        write_json(self._note(model), {"status": status, **asdict(finished)})
        self._path(model, "checkpoint.pt").unlink(missing_ok=True)

    def add(self, model: int, rows: NDArray[np.int32], answers: Sequence[tuple[BaseModel, Answers]]) -> None:
        """Keep a model's answers to further queries. Answers that are there already stay."""
        for query, new in answers:
            if self.answers(model, query, rows) is not None:
                continue
            table = pa.table([rows, *(values for values in new if values is not None)], schema=self._schema)
            with replacing(self._answers(model, query)) as temporary:
                pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

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

    def answers(self, model: int, query: BaseModel, rows: NDArray[np.int32]) -> Answers | None:
        """A model's answers for `rows`; None where there are none, or the file is damaged."""
        path = self._answers(model, query)
        try:
            table = pq.ParquetFile(path, page_checksum_verification=True).read()
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError):
            table = None
        if table is None or table.schema != self._schema or not np.array_equal(table.column("row").to_numpy(), rows):
            log.warning("%s is damaged, or of an earlier version, and will be made again", path)
            return None
        return Answers(*(table.column(name).to_numpy() for name in self._schema.names[1:]))

    def weights(self, model: int) -> dict[str, Tensor] | None:
        """The kept weights and buffers of a finished model; None where there are none, or the file is damaged."""
        return _load(self._path(model, "weights.pt"))

    def checkpoint(self, model: int) -> Saved | None:
        """The state of a training that was under way; None where there is none, or the file is damaged."""
        found = _load(self._path(model, "checkpoint.pt"))
        try:
            return found and Saved(**found)
        except TypeError:
            return None

    def save_checkpoint(self, model: int, saved: Saved) -> None:
        """Keep the state of a training that is under way, in place of the one before."""
        _save(
            self._path(model, "checkpoint.pt"),
            {key: getattr(saved, key) for key in ("step", "tensors", "failed", "precision")},
        )

    def _path(self, model: int, name: str) -> Path:
        return self._folder / str(model) / name

    def _note(self, model: int) -> Path:
        return self._path(model, places.NOTE)

    def _answers(self, model: int, query: BaseModel) -> Path:
        return self._path(model, places.answers(query))


def lacks(store: Store, model: int, queries: Sequence[BaseModel], rows: NDArray[np.int32]) -> bool:
    """Whether a model has yet to be trained, or to answer a query. One that failed before lacks nothing."""
    note = store.finished(model)
    if note is None:
        return True
    return note.reason is None and any(store.answers(model, query, rows) is None for query in queries)


def _save(path: Path, content: Any) -> None:
    with replacing(path) as temporary:
        try:
            with temporary.open("wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch does not speak of
                raise error.__context__ from None
            raise


def _load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError):
        log.warning("%s is damaged and will not be used", path)
        return None
