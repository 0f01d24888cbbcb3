"""The models of a chunk that the store lacks: trained in stacks, asked, stored."""

import logging
import time
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from tailrisk.config.queries import AnyQuery
from tailrisk.config.recipe import Training
from tailrisk.config.study import Running
from tailrisk.datasets.contract import Prepared
from tailrisk.errors import UserError
from tailrisk.models import capacity, is_stacked
from tailrisk.training.engine import Observer, Saved, Trained, make, precision, predict, steps_per_epoch, train
from tailrisk.training.memory import fitting, is_out_of_memory, predict_need
from tailrisk.training.performance import auroc
from tailrisk.training.progress import Progress, say
from tailrisk.training.queries import Question
from tailrisk.training.resident import Resident, make_resident
from tailrisk.training.stack import keeps_bits, stack_size
from tailrisk.training.store import Finished, Store
from tailrisk.training.termination import Termination

log = logging.getLogger(__name__)

WORTH_SAVING = 60.0
"""Seconds of training that are saved before the models are asked."""


class Trainer:
    """Trains the models of a chunk that the store lacks, and asks them; stack after stack."""

    def __init__(
        self,
        training: Training,
        asked: dict[str, AnyQuery],
        prepared: Prepared,
        device: torch.device,
        running: Running,
        store: Store,
        machine: dict[str, str],
        termination: Termination,
    ) -> None:
        self._training, self._prepared, self._store, self._running = training, prepared, store, running
        self._termination, self._machine = termination, machine
        self._rows = prepared.rows("audit")
        self._data = make_resident(prepared, device, is_stacked(training.model))
        self._questions = [
            (query, Question(name, query, training, prepared, self._data, self._rows)) for name, query in asked.items()
        ]
        self.asked_again = 0
        self.way: dict[str, str] = {}

    def ask_again(self, numbers: Sequence[int]) -> list[int]:
        """Ask those of `numbers` whose weights were kept, and return the others, which must be trained."""
        others = []
        for number in numbers:
            weights = self._store.weights(number) if self._store.finished(number) else None
            if weights is None:
                others.append(number)
                continue
            model, flat = make(self._training, self._data, [number])
            with torch.no_grad():
                flat.weights[0].copy_(weights["weights"])
                flat.buffers[0].copy_(weights["buffers"])
            answers = [(query, question.ask(model, 1).of(0)) for query, question in self._questions]
            if not all(said.finite for _, said in answers):
                others.append(number)  # trained again, it is reported as failed
                continue
            self._store.add(number, self._rows.astype(np.int32), answers)
            self.asked_again += 1
        return others

    def train(self, pools: dict[int, NDArray[np.int64]], display: Progress) -> None:
        """Train models on their member rows, ask them, and store what they say; stack after stack."""
        try:
            if pools:
                self._train_all(pools, display)
        except RuntimeError as error:
            if "deterministic implementation" not in str(error):
                raise
            operation = " ".join(str(error).split())[:200]
            raise UserError(
                f"the network uses an operation whose results vary from run to run ({operation}): replace it, or train "
                "on a CPU"
            ) from None

    def _train_all(self, pools: dict[int, NDArray[np.int64]], display: Progress) -> None:
        arithmetic = precision(self._training, self._data)
        found = {number: self._store.checkpoint(number) for number in pools}
        checkpoints = {number: saved for number, saved in found.items() if saved and saved.precision == arithmetic}
        limit = self._stack_size(pools)

        def step(number: int) -> int:
            return checkpoints[number].step if number in checkpoints else 0

        # Models that were interrupted go on together with those that had come equally far, and go first.
        for done, equal in groupby(sorted(pools, key=lambda number: (-step(number), number)), key=step):
            waiting = list(equal)
            while waiting:
                numbers = waiting[:limit]
                saved = [checkpoints[number] for number in numbers] if done else []
                try:
                    self._train_stack(numbers, [pools[number] for number in numbers], saved, display)
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    limit = self._halved(len(numbers), error)
                    continue
                waiting = waiting[len(numbers) :]

    def _halved(self, size: int, error: BaseException) -> int:
        if self._data.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1:
            raise UserError(
                f"the memory of {self._machine['device']} is too small for one target model "
                f"({' '.join(str(error).split())[:120]}): raise recipe.accumulation, or lower recipe.batch_size"
            ) from None
        say(f"out of memory with {size} models at once: going on with {size // 2}")
        return size // 2

    def _stack_size(self, pools: dict[int, NDArray[np.int64]]) -> int:
        """Models of a stack: as configured or measured, as many as fit, and one where bits would depend on it."""
        size = self._running.stack_size or stack_size(self._training, self._data.device)
        size = min(size, len(pools))
        if self._data.device.type != "cuda":
            return size
        free, _ = torch.cuda.mem_get_info(self._data.device)
        size = fitting(size, predict_need(self._training, self._data), int(0.9 * free))
        numbers = list(pools)[:2]
        while not self._keeps_bits(numbers, [pools[number] for number in numbers], size):
            if size == 1:
                log.warning("this device does not compute the same bits twice: a model trained again will be another")
                break
            log.warning("this device computes other bits in a stack than alone: training one model at a time")
            size = 1
        return size

    def _keeps_bits(self, numbers: list[int], pools: list[NDArray[np.int64]], size: int) -> bool:
        try:
            return keeps_bits(self._training, self._data, numbers, pools, size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            torch.cuda.empty_cache()
            return True  # training finds the size that fits

    def _train_stack(
        self, numbers: list[int], pools: list[NDArray[np.int64]], saved: list[Saved], display: Progress
    ) -> None:
        start = time.monotonic()
        trained = self._trained(self._training, numbers, pools, saved, display)
        failed = self._store_stack(trained, numbers, time.monotonic() - start, retried=False)
        del trained  # a second try needs the room
        display.stack(len(numbers))
        recipe = self._training.recipe
        if not failed or recipe.retry is None:
            return
        again = [slot for slot, reason in failed.items() if "not finite" in reason]
        lower = recipe.model_copy(update={"learning_rate": recipe.learning_rate * recipe.retry})
        slower = self._training.model_copy(update={"recipe": lower})
        second = [numbers[slot] for slot in again]
        say(f"target models {second} failed; trained once more at {recipe.retry:g} of the learning rate")
        start = time.monotonic()
        trained = train(
            slower, self._data, second, [pools[slot] for slot in again], self._prepared.rows("validation"), self._steps
        )
        self._store_stack(trained, second, time.monotonic() - start, retried=True)

    @property
    def _steps(self) -> int:
        trainable = int((~self._prepared.control[self._rows]).sum())
        return steps_per_epoch(trainable, self._training.recipe.batch_size)

    def _trained(
        self,
        training: Training,
        numbers: list[int],
        pools: list[NDArray[np.int64]],
        saved: list[Saved],
        display: Progress,
    ) -> Trained:
        if saved:
            say(f"target models {numbers[0]} to {numbers[-1]} go on after epoch {saved[0].step / self._steps:.1f}")
            display.resume(saved[0].step / self._steps, len(numbers))
        observer = _Observer(numbers, self._store, self._termination, self._running.checkpoint_minutes, display)
        self._termination.saving = True
        try:
            validation = self._prepared.rows("validation")
            return train(training, self._data, numbers, pools, validation, self._steps, observer, saved)
        finally:
            self._termination.saving = False
            if self._termination.requested:
                self._termination.end()

    def _store_stack(self, trained: Trained, numbers: list[int], seconds: float, retried: bool) -> dict[int, str]:
        """Ask a stack and keep what it says. Returns why slots failed; those to be tried again are not yet stored."""
        n_models, rows = len(numbers), self._rows.astype(np.int32)
        answers = [(query, question.ask(trained.model, n_models)) for query, question in self._questions]
        failed = dict(trained.failed)
        for slot in range(n_models):
            if slot not in failed and not all(said.of(slot).finite for _, said in answers):
                failed[slot] = "a confidence is not finite"
        sound = sorted(set(range(n_models)) - set(failed))
        performance = _performance(trained.model, self._data, self._prepared, sound)
        size = capacity(self._training.model, self._data.shape, self._data.n_outputs)
        self.way = {"running": f"{n_models} at once, {precision(self._training, self._data)}"}
        for slot, number in enumerate(numbers):
            if slot in failed and self._training.recipe.retry is not None and not retried:
                continue
            note = Finished(
                reason=failed.get(slot),
                capacity=size,
                performance=performance.get(slot, []),
                steps=trained.steps[slot],
                seconds=round(seconds / n_models, 3),
                machine=self._machine | self.way,
                retried=retried,
            )
            own = [] if slot in failed else [(query, said.of(slot)) for query, said in answers]
            weights = None
            if self._running.keep_weights and slot not in failed:
                weights = {
                    "weights": trained.flat.weights[slot].cpu().clone(),
                    "buffers": trained.flat.buffers[slot].cpu().clone(),
                }
            self._store.put(number, rows, own, note, weights)
        return failed


class _Observer(Observer):
    """Shows progress, and saves the stack every few minutes and when the job is told to end."""

    def __init__(
        self, numbers: list[int], store: Store, termination: Termination, minutes: float, display: Progress
    ) -> None:
        self._numbers, self._store, self._termination = numbers, store, termination
        self._seconds, self._display = 60 * minutes, display
        self._start = self._last = time.monotonic()

    def epoch(self, epochs: float, loss: float) -> None:
        self._display.epoch(epochs, loss, len(self._numbers))

    def due(self, last: bool = False) -> bool:
        now = time.monotonic()
        # Asking comes after the last step and can take long, too: then a training of some length is saved before it.
        return (
            self._termination.requested
            or now - self._last >= self._seconds
            or (last and now - self._start >= min(self._seconds, WORTH_SAVING))
        )

    def save(self, saved: list[Saved]) -> None:
        for number, own in zip(self._numbers, saved, strict=True):
            self._store.save_checkpoint(number, own)
        self._last = time.monotonic()
        if self._termination.requested:
            say(f"told to end: saved after step {saved[0].step}, to be resumed from there")
            self._termination.end()


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
