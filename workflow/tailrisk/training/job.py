"""A training job: one chunk of an experiment's target models, served from the store or trained."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tailrisk.config.architectures import Custom
from tailrisk.config.load import parse
from tailrisk.config.queries import AnyQuery
from tailrisk.config.recipe import Training
from tailrisk.config.study import Running, code_hash
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.errors import UserError
from tailrisk.models import is_stacked
from tailrisk.models.shapes import check_shape
from tailrisk.tables import ConfidenceWriter
from tailrisk.training import augment
from tailrisk.training.device import describe, usable
from tailrisk.training.failure import NOT_FINISHED, own_code, reasons, target_models
from tailrisk.training.halves import record_members, training_rows
from tailrisk.training.progress import Progress, say
from tailrisk.training.store import Store, lacks
from tailrisk.training.termination import Termination
from tailrisk.training.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """What a job did: counts of models (trained includes those that failed now), and where it ran.

    `asked` models were asked further queries from their kept weights, without training.
    """

    served: int
    trained: int
    asked: int
    failed: int
    seconds: float
    cpu_seconds: float
    machine: dict[str, str]


def run_chunk(
    dataset: Path,
    recipe: str,
    queries: str,
    models: range,
    store: Path,
    output: Path,
    running: Running | None = None,
    device: str | None = None,
    progress: TextIO | None = sys.stderr,
) -> Outcome:
    """Write the confidences of target models `models` to `output` (table `chunk`), training what `store` lacks.

    `recipe` is the canonical JSON of a Training, `queries` that of a mapping from name to query. Every finished stack
    is stored at once, and a stack in training is saved every few minutes. SIGTERM lets it finish its step and save,
    and ends the process with exit code 143. The file depends on data, recipe, queries and model numbers alone: not on
    what was served, stacked, interrupted or repeated.
    """
    start, cpu_start = time.monotonic(), time.process_time()
    label = f"{output.parent.name} {output.stem}"
    training: Training = parse_json(Training, recipe, "recipe")
    asked: dict[str, AnyQuery] = parse_json(dict[str, AnyQuery], queries, "queries")
    if isinstance(training.model, Custom) and training.code not in (None, code_hash(training.model)):
        raise UserError(
            f"the code of {training.model.function} has changed since the workflow was started: run it again, so that "
            "all target models are of one kind"
        )
    where = usable(device)
    prepared = open_prepared(dataset)
    check_fit(training, tuple(prepared.inputs.shape[1:]))
    rows = prepared.rows("audit")
    members = record_members(prepared, training.seed, models, rows)
    pools = training_rows(prepared, models, rows, members)
    kept = Store(store, training, prepared.data_hash, prepared.task == "multilabel")
    missing = [n for n in models if lacks(kept, n, list(asked.values()), rows.astype(np.int32))]
    machine, trained, asked_again = describe(where), 0, 0
    if missing:
        if len(missing) < len(models):
            say(f"{label}: {len(models) - len(missing)} of {len(models)} target models are in the store", progress)
        with Termination() as termination, _told(label, training, kept, missing):
            trainer = Trainer(training, asked, prepared, where, running or Running(), kept, machine, termination)
            to_train = trainer.ask_again(missing)
            trained = len(to_train)
            display = Progress(label, trained, training.recipe.epochs, progress)
            trainer.train({number: pools[models.index(number)] for number in to_train}, display)
            asked_again, machine = trainer.asked_again, machine | trainer.way

    failed = _gather(output, training, asked, models, prepared, members, kept)
    outcome = Outcome(
        served=len(models) - trained - asked_again,
        trained=trained,
        asked=asked_again,
        failed=len(failed),
        seconds=time.monotonic() - start,
        cpu_seconds=time.process_time() - cpu_start,
        machine=machine,
    )
    again = f"{outcome.asked} asked again, " if outcome.asked else ""
    print(
        f"{label}: {outcome.served} served from the store, {again}{outcome.trained} trained, {outcome.failed} failed",
        flush=True,
    )
    if failed:
        say(f"{label}: {reasons(failed)}")
    return outcome


def check_fit(training: Training, shape: tuple[int, ...]) -> None:
    """UserError where the architecture or the augmentation of a recipe cannot take records of `shape`."""
    check_shape(training.model, shape)
    augment.check(training.recipe.augmentation, shape)
    if is_stacked(training.model) and training.recipe.augmentation != "none":
        raise UserError(
            f"architecture {training.model.architecture} takes flattened records, which cannot be augmented: set "
            "recipe.augmentation to none, or take a network for images or signals"
        )


@contextmanager
def _told(label: str, training: Training, store: Store, models: list[int]) -> Iterator[None]:
    """Errors within the block say which of `models` are not finished."""
    try:
        yield
    except Exception as error:
        left = target_models([number for number in models if store.finished(number) is None] or models)
        unfinished = f"{label}: {left} {NOT_FINISHED}"
        said = str(error) if isinstance(error, UserError) else own_code(training.model, error)
        if said is None:
            error.add_note(unfinished)
            raise
        raise UserError(f"{unfinished}: {said}") from error


def parse_json(kind: Any, text: str, name: str) -> Any:
    """`text` as JSON of `kind`; UserError where it is not."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON ({error}): pass the text that the workflow makes") from None
    return parse(kind, value, name)


def _gather(
    output: Path,
    training: Training,
    asked: dict[str, AnyQuery],
    models: range,
    prepared: Prepared,
    members: NDArray[np.bool_],
    store: Store,
) -> dict[int, str]:
    """Write the table of a chunk whose models are all in the store. Returns why models failed."""
    rows = prepared.rows("audit").astype(np.int32)
    notes = {}
    for number in models:
        note = store.finished(number)
        if note is None:
            raise UserError(f"the stored answers of target model {number} vanished while they were gathered: run again")
        notes[number] = note
    failed = {number: note.reason for number, note in notes.items() if note.reason is not None}
    metadata = {
        "recipe": training.model_dump(mode="json"),
        "data_hash": prepared.data_hash,
        "task": prepared.task,
        "capacity": next(iter(notes.values())).capacity,
        "failed": {str(number): reason for number, reason in failed.items()},
        "retried": [number for number, note in notes.items() if note.retried],
        "performance": [[number, *row] for number, note in notes.items() for row in note.performance],
    }
    with ConfidenceWriter(output, "chunk", metadata, losses=prepared.task == "multilabel") as writer:
        for slot, number in enumerate(models):
            for name, query in sorted(asked.items() if number not in failed else []):
                said = store.answers(number, query, rows)
                if said is None:
                    raise UserError(f"the stored answers of target model {number} vanished: run again")
                writer.add(number, rows, members[slot], said.confidence, name, said.loss)
    return failed
