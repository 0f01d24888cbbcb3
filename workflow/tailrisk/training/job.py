"""A training job: one chunk of an experiment's target models, served from the store or trained."""

import contextlib
import json
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from tailrisk import __version__
from tailrisk.config.load import parse
from tailrisk.config.recipe import Clean, Training
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.errors import UserError
from tailrisk.models import capacity
from tailrisk.tables import ConfidenceWriter
from tailrisk.training.engine import predict, steps_per_epoch, train
from tailrisk.training.halves import record_members, training_rows
from tailrisk.training.performance import auroc
from tailrisk.training.progress import Progress
from tailrisk.training.queries import ask
from tailrisk.training.resident import Resident, make_resident
from tailrisk.training.stack import stack_size as measured_stack_size
from tailrisk.training.store import Finished, Store, served


@dataclass(frozen=True)
class Outcome:
    """What a job did: counts of models (trained includes those that failed now), and where it ran."""

    served: int
    trained: int
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
    stack_size: int | None = None,
    device: str | None = None,
    progress: TextIO | None = sys.stderr,
) -> Outcome:
    """Write the confidences of target models `models` to `output` (table `chunk`), training what `store` lacks.

    `recipe` is the canonical JSON of a Training, `queries` that of a mapping from name to query. Every finished stack
    is stored at once; SIGTERM ends the process with exit code 143 and loses the stack in hand at most. The file
    depends on data, recipe, queries and model numbers alone: not on what was served, stacked or repeated.
    """
    start, cpu_start = time.monotonic(), time.process_time()
    label = f"{output.parent.name} {output.stem}"
    training: Training = parse_json(Training, recipe, "recipe")
    asked: dict[str, Clean] = parse_json(dict[str, Clean], queries, "queries")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if where.type == "cpu":
        torch.set_num_threads(1)  # parallelism comes from several jobs; threads would change the last bits
    prepared = open_prepared(dataset)
    rows = prepared.rows("audit")
    members = record_members(prepared, training.seed, models, rows)
    pools = training_rows(prepared, models, rows, members)
    kept = Store(store, training, prepared.data_hash)
    missing = [n for n in models if not served(kept, n, list(asked.values()), rows.astype(np.int32))]
    machine = describe(where)

    if missing:
        data = make_resident(prepared, where)
        limit = stack_size or measured_stack_size(training, where)
        display = Progress(label, len(missing), training.recipe.epochs, progress)
        with _ended_by_sigterm():
            for stack in np.array_split(np.array(missing), -(-len(missing) // limit)):
                numbers = stack.tolist()
                chosen = [pools[models.index(number)] for number in numbers]
                _train_stack(training, asked, prepared, data, numbers, chosen, kept, machine, display)
                display.stack(len(numbers))

    failed = _gather(output, training, asked, models, prepared, members, kept)
    outcome = Outcome(
        served=len(models) - len(missing),
        trained=len(missing),
        failed=failed,
        seconds=time.monotonic() - start,
        cpu_seconds=time.process_time() - cpu_start,
        machine=machine,
    )
    print(
        f"{label}: {outcome.served} served from the store, {outcome.trained} trained, {outcome.failed} failed",
        flush=True,
    )
    return outcome


def parse_json(kind: Any, text: str, name: str) -> Any:
    """`text` as JSON of `kind`; UserError where it is not."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON ({error}): pass the text that the workflow makes") from None
    return parse(kind, value, name)


def describe(device: torch.device) -> dict[str, str]:
    """Hardware and versions, for the record: last bits depend on them."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": f"{device.type}: {name}",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "tailrisk": __version__,
    }


def _train_stack(
    training: Training,
    asked: dict[str, Clean],
    prepared: Prepared,
    data: Resident,
    numbers: Sequence[int],
    pools: Sequence[NDArray[np.int64]],
    store: Store,
    machine: dict[str, str],
    display: Progress,
) -> None:
    start = time.monotonic()
    rows, n_models = prepared.rows("audit"), len(numbers)
    trained = train(
        training,
        data,
        numbers,
        pools,
        validation=prepared.rows("validation"),
        n_steps=steps_per_epoch(int((~prepared.control[rows]).sum()), training.recipe.batch_size),
        report=lambda epoch, loss: display.epoch(epoch, loss, n_models),
    )
    answers = [(query, ask(query, trained.model, data, rows, n_models)) for query in asked.values()]
    failed = dict(trained.failed)
    for slot in range(n_models):
        if slot not in failed and not all(np.isfinite(confidence[slot]).all() for _, confidence in answers):
            failed[slot] = "a confidence is not finite"
    performance = _performance(trained.model, data, prepared, sorted(set(range(n_models)) - set(failed)))
    size = capacity(training.model, data.n_features, data.n_outputs)
    seconds = (time.monotonic() - start) / n_models
    for slot, number in enumerate(numbers):
        note = Finished(
            reason=failed.get(slot),
            capacity=size,
            performance=performance.get(slot, []),
            steps=trained.steps[slot],
            seconds=round(seconds, 3),
            machine=machine,
        )
        own = [] if slot in failed else [(query, confidence[slot]) for query, confidence in answers]
        store.put(number, rows.astype(np.int32), own, note)


def _performance(
    model: torch.nn.Module, data: Resident, prepared: Prepared, slots: list[int]
) -> dict[int, list[tuple[str, str, float]]]:
    found: dict[int, list[tuple[str, str, float]]] = {slot: [] for slot in slots}
    for split in ("test", "validation"):
        rows = prepared.rows(split)
        logits = np.concatenate([block.cpu().numpy() for _, block in predict(model, data, rows)], axis=1)
        for slot in slots:
            value = auroc(logits[slot], prepared.labels[rows], prepared.task)
            if np.isfinite(value):
                found[slot].append((split, "auroc", value))
    return found


def _gather(
    output: Path,
    training: Training,
    asked: dict[str, Clean],
    models: range,
    prepared: Prepared,
    members: NDArray[np.bool_],
    store: Store,
) -> int:
    rows = prepared.rows("audit").astype(np.int32)
    notes = {}
    for number in models:
        note = store.finished(number)
        if note is None:
            raise UserError(f"the stored answers of target model {number} vanished while they were gathered: run again")
        notes[number] = note
    failed = {str(number): note.reason for number, note in notes.items() if note.reason is not None}
    metadata = {
        "recipe": training.model_dump(mode="json"),
        "data_hash": prepared.data_hash,
        "capacity": next(iter(notes.values())).capacity,
        "failed": failed,
        "performance": [[number, *row] for number, note in notes.items() for row in note.performance],
    }
    with ConfidenceWriter(output, "chunk", metadata) as writer:
        for slot, number in enumerate(models):
            for name, query in sorted(asked.items() if str(number) not in failed else []):
                confidence = store.answers(number, query, rows)
                if confidence is None:
                    raise UserError(f"the stored answers of target model {number} vanished: run again")
                writer.add(number, rows, members[slot], confidence, name)
    return len(failed)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit(143), so that half-written files are taken away."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    try:
        previous = signal.signal(signal.SIGTERM, end)
    except ValueError:  # only the main thread may set a handler
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
