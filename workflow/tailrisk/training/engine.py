"""Training of a stack of target models at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailrisk.config.recipe import Training
from tailrisk.models import build
from tailrisk.models.singly import Singly
from tailrisk.training import augment
from tailrisk.training.choice import Choice
from tailrisk.training.flat import Flat
from tailrisk.training.losses import record_losses
from tailrisk.training.optimizer import Optimizer
from tailrisk.training.order import Orders
from tailrisk.training.resident import Resident
from tailrisk.training.schedule import learning_rate
from tailrisk.training.seeds import seed_of
from tailrisk.training.watch import Watch

View = Callable[[slice], Tensor]
"""Model inputs [n, …] of a part of the rows that are asked."""


@dataclass(frozen=True)
class Saved:
    """One model's training after `step` steps: all that its further training depends on, and why it failed, if so."""

    step: int
    tensors: dict[str, Tensor]
    failed: str | None
    precision: str


class Observer:
    """Told how a training proceeds; this one does not care."""

    def epoch(self, epochs: float, loss: float) -> None:
        """So many epochs are done; `loss` is the mean training loss of the models that are still trained."""

    def due(self, last: bool = False) -> bool:
        """Whether the state is to be saved now; asked after every step, of which one is the last."""
        return False

    def save(self, saved: list[Saved]) -> None:
        """Take the state of all models of the stack."""


@dataclass(frozen=True)
class Trained:
    """A stack of trained models: why slots failed, and the number of steps behind each slot's kept weights."""

    model: nn.Module
    flat: Flat
    failed: dict[int, str]
    steps: list[int]


def steps_per_epoch(n_trainable: int, batch_size: int) -> int:
    """Steps of one pass over an average half of the trainable audit records; the same for every model."""
    return -(-n_trainable // (2 * batch_size))


def make(training: Training, data: Resident, models: Sequence[int]) -> tuple[nn.Module, Flat]:
    """Target models `models` with their initial weights, on the device of `data`."""
    seeds = [seed_of(training.seed, number, "init") for number in models]
    model = build(training.model, data.shape, data.n_outputs, seeds).to(data.device)
    return model, Flat(model)


def train(
    training: Training,
    data: Resident,
    models: Sequence[int],
    pools: Sequence[NDArray[np.int64]],
    validation: NDArray[np.int64],
    n_steps: int,
    observer: Observer | None = None,
    saved: Sequence[Saved] = (),
) -> Trained:
    """Train target models `models` on their member rows `pools`, `n_steps` an epoch.

    Every model's result is the same whatever is stacked beside it. `validation` rows serve early stopping alone.
    With `saved`, one a model and all after the same step, the training goes on from there to the same result.
    """
    recipe, stack = training.recipe, Stack(training, data, models, validation)
    observer = observer or Observer()
    orders = Orders(pools, [seed_of(training.seed, number, "order") for number in models], recipe.batch_size)
    start = stack.restore(saved) if saved else 0
    for epoch in range(recipe.epochs):
        batches = orders.take(n_steps)
        if (epoch + 1) * n_steps <= start:
            continue
        if not stack.active().any():
            break
        first = max(0, start - epoch * n_steps)
        losses = torch.empty(n_steps, len(models), device=data.device)
        for step, loss in enumerate(stack.steps(batches[first:], epoch * n_steps + first, recipe.epochs * n_steps)):
            losses[first + step] = loss
            done = epoch * n_steps + first + step + 1
            if done % n_steps and observer.due():
                stack.look(losses[first : first + step + 1], epoch * n_steps + first)
                observer.save(stack.saved(done))
        stack.look(losses[first:], epoch * n_steps + first)
        trained = losses[first:].mean(dim=0).cpu()[stack.active()]
        stack.validate(epoch + 1, (epoch + 1) * n_steps)
        if observer.due(last=epoch + 1 == recipe.epochs or not stack.active().any()):
            observer.save(stack.saved((epoch + 1) * n_steps))
        if len(trained):
            observer.epoch(epoch + 1, float(trained.mean()))
    return stack.finish(recipe.epochs * n_steps)


class Stack:
    """K models in training."""

    def __init__(
        self, training: Training, data: Resident, models: Sequence[int], validation: NDArray[np.int64]
    ) -> None:
        recipe = training.recipe
        self._training, self._recipe, self._data, self._models = training, recipe, data, models
        self._validation = validation
        self.model, self._flat = make(training, data, models)
        self._optimizer = Optimizer(recipe, self._flat)
        self._average = (self._flat.weights.clone(), self._flat.buffers.clone()) if recipe.ema else None
        self._watch = Watch(len(models))
        self._choice = Choice(recipe.early_stopping, self._flat) if recipe.early_stopping else None
        # Models that are not stacked take their turns, each with tensors of its own: vectorised code treats the last
        # numbers of a tensor otherwise, so that a shared tensor would give a model other bits in another slot.
        n_models, alone = len(models), isinstance(self.model, Singly)
        self._turns = [slice(k, k + 1) for k in range(n_models)] if alone else [slice(0, n_models)]
        self._precision = precision(training, data)

    def steps(self, batches: Tensor, first: int, n_steps: int) -> Iterator[Tensor]:
        """Take steps number `first` and on, of `n_steps`, on row numbers [S, K, B]; yields each step's losses [K]."""
        recipe, parts = self._recipe, self._recipe.accumulation
        self.model.train()
        batches = self._data.near(batches)
        portions = (part[slots] for rows in batches for part in rows.chunk(parts, dim=1) for slots in self._turns)
        feed = self._data.batches(portions)
        for step in range(first, first + len(batches)):
            losses = torch.zeros(len(self._models), device=self._data.device)
            for part in range(parts):
                for slots in self._turns:
                    x, y = next(feed)
                    logits = self._logits(x, slots, step * parts + part)
                    # Sums over models and means over records: no model's gradient depends on the number of models.
                    own = record_losses(logits, y, self._data.task, recipe.label_smoothing).sum(dim=1)
                    own = own / recipe.batch_size
                    self._flat.differentiate(own.sum(), slots, add=part > 0)
                    losses[slots] += own.detach()
            self._optimizer.step(self._flat.gradients, learning_rate(recipe, step, n_steps), step)
            if self._average and recipe.ema:
                self._average[0].lerp_(self._flat.weights, 1 - recipe.ema)
                self._average[1].lerp_(self._flat.buffers, 1 - recipe.ema)
            yield losses

    def look(self, losses: Tensor, first_step: int) -> None:
        """Note which models have failed in the steps from `first_step` on, with losses [steps, K]."""
        self._watch.look(losses, self._flat.weights, first_step)

    def active(self) -> NDArray[np.bool_]:
        """Mask [K] of the models that are neither failed nor finished."""
        failed = self._watch.failed_slots()
        return ~failed & ~self._choice.finished if self._choice else ~failed

    def validate(self, epoch: int, step: int) -> None:
        """Early stopping's look at the validation split after an epoch."""
        if not self._choice or epoch % self._choice.stopping.every:
            return
        if self._average:
            self._flat.exchange(*self._average)
        losses = _mean_losses(self.model, self._data, self._validation)
        self._choice.look(losses, step, self.active())
        if self._average:
            self._flat.exchange(*self._average)
        self._watch.ignore(self._choice.finished)

    @torch.no_grad()
    def finish(self, n_steps: int) -> Trained:
        """The models with the weights that the recipe keeps."""
        if self._choice:
            for slot in np.flatnonzero((self._choice.steps == 0) & ~self._watch.failed_slots()):
                self._watch.failed[int(slot)] = "validation loss not finite"
            self._flat.weights.copy_(self._choice.weights)
            self._flat.buffers.copy_(self._choice.buffers)
        elif self._average:
            self._flat.weights.copy_(self._average[0])
            self._flat.buffers.copy_(self._average[1])
        steps = self._choice.steps.tolist() if self._choice else [n_steps] * len(self._models)
        return Trained(self.model, self._flat, self._watch.failed, steps)

    @property
    def n_weights(self) -> int:
        """Stored numbers of one model, padding included."""
        return self._flat.weights.shape[1] + self._flat.buffers.shape[1]

    def saved(self, step: int) -> list[Saved]:
        """The state of every model after `step` steps."""
        state = {name: tensor.cpu() for name, tensor in self._state().items()}
        return [
            Saved(
                step,
                {name: tensor[slot].clone() for name, tensor in state.items()},
                self._watch.failed.get(slot),
                self._precision,
            )
            for slot in range(len(self._models))
        ]

    @torch.no_grad()
    def restore(self, saved: Sequence[Saved]) -> int:
        """Go on from `saved`; returns the number of steps that were done."""
        for name, tensor in self._state().items():
            tensor.copy_(torch.stack([model.tensors[name] for model in saved]))
        self._watch.failed = {slot: model.failed for slot, model in enumerate(saved) if model.failed is not None}
        if self._choice:
            self._watch.ignore(self._choice.finished)
        (step,) = {model.step for model in saved}
        return step

    def _state(self) -> dict[str, Tensor]:
        state = {"weights": self._flat.weights, "buffers": self._flat.buffers, "first": self._optimizer.first}
        if self._optimizer.second.numel():
            state["second"] = self._optimizer.second
        if self._average:
            state |= {"average": self._average[0], "average_buffers": self._average[1]}
        return state | (self._choice.state() if self._choice else {})

    def _logits(self, x: Tensor, slots: slice, step: int) -> Tensor:
        """Logits [k, B, C] of the models in `slots` for their records x [k, B, …], augmented, in training."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            if not isinstance(self.model, Singly):
                return self.model(x).float()
            number, model = self._models[slots.start], self.model.models[slots.start]
            records = self._augmented(x[0], number, step)
            torch.manual_seed(seed_of(self._training.seed, number, "dropout", step))  # for layers that draw
            return model(records).float()[None]

    def _augmented(self, x: Tensor, model: int, step: int) -> Tensor:
        kind = self._recipe.augmentation
        if kind == "none":
            return x
        generator = torch.Generator().manual_seed(seed_of(self._training.seed, model, "augment", step))
        drawn = augment.draw(kind, len(x), self._data.shape, generator)
        return augment.apply(kind, x, {name: values.to(x.device) for name, values in drawn.items()})


def precision(training: Training, data: Resident) -> str:
    """The arithmetic of training: as the recipe says, or by its `auto` for these models and this device."""
    chosen = training.recipe.precision
    if chosen == "auto":
        return "bfloat16" if data.device.type == "cuda" and not data.flat else "float32"
    return chosen


def block_size(data: Resident) -> int:
    """Records a model answers at once: fixed per device, as the last bits of a matrix product depend on its shape.

    On a CPU activations of more than 32 MB cost more in page faults than in arithmetic.
    """
    if data.flat:
        return 1024
    numbers = 2**24 if data.device.type == "cuda" else 2**17
    return max(16, 2 ** int(np.log2(numbers / np.prod(data.shape))))


def predict(
    model: nn.Module, data: Resident, rows: NDArray[np.int64], view: View | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Logits [K, n, C] of all models for `rows`, block after block, each with its place within `rows`.

    `view` gives the model inputs of a place, in place of the records as they are.
    """
    model.eval()
    numbers, block = torch.from_numpy(rows), block_size(data)
    with torch.inference_mode():
        for first in range(0, len(rows), block):
            place = slice(first, min(first + block, len(rows)))
            x = view(place) if view else data.scaled(data.raw(numbers[place]))
            yield place, model(x[None])


def _mean_losses(model: nn.Module, data: Resident, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = []
    for place, logits in predict(model, data, rows):
        labels = data.labels[torch.from_numpy(rows[place]).to(data.device)][None]
        # One model at a time, here and below: sums and vectorised code depend on the number of rows.
        own = [record_losses(one[None], labels, data.task)[0] for one in logits]
        parts.append(torch.stack(own).double().cpu().numpy())
    return np.array([losses.mean() for losses in np.concatenate(parts, axis=1)])
