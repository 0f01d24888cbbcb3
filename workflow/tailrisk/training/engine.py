"""Training of a stack of target models at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailrisk.config.recipe import EarlyStopping, Training
from tailrisk.models import build
from tailrisk.training.flat import Flat
from tailrisk.training.losses import record_losses
from tailrisk.training.optimizer import Optimizer
from tailrisk.training.order import Orders
from tailrisk.training.resident import Resident
from tailrisk.training.schedule import learning_rate
from tailrisk.training.seeds import seed_of

BLOCK = 1024
"""Records a model answers at once; fixed, because the last bits of a matrix product depend on its shape."""

Report = Callable[[int, float], None]


@dataclass(frozen=True)
class Trained:
    """A stack of trained models: why slots failed, and the number of steps behind each slot's kept weights."""

    model: nn.Module
    failed: dict[int, str]
    steps: list[int]


def steps_per_epoch(n_trainable: int, batch_size: int) -> int:
    """Steps of one pass over an average half of the trainable audit records; the same for every model."""
    return -(-n_trainable // (2 * batch_size))


def train(
    training: Training,
    data: Resident,
    models: Sequence[int],
    pools: Sequence[NDArray[np.int64]],
    validation: NDArray[np.int64],
    n_steps: int,
    report: Report = lambda epoch, loss: None,
) -> Trained:
    """Train target models `models` on their member rows `pools`, `n_steps` an epoch.

    Every model's result is the same whatever is stacked beside it. `validation` rows serve early stopping alone.
    `report` is called after every epoch with its number and the mean loss of the models that are still trained.
    """
    recipe, device = training.recipe, data.inputs.device
    seeds = [seed_of(training.seed, number, "init") for number in models]
    model = build(training.model, data.n_features, data.n_outputs, seeds).to(device)
    flat = Flat(model)
    optimizer = Optimizer(recipe, flat.weights)
    average = flat.weights.clone() if recipe.ema else None
    orders = Orders(pools, [seed_of(training.seed, number, "order") for number in models], recipe.batch_size)
    watch = _Watch(len(models))
    choice = _Choice(recipe.early_stopping, flat.weights) if recipe.early_stopping else None
    active = np.ones(len(models), dtype=bool)  # neither failed nor finished

    for epoch in range(recipe.epochs):
        batches = orders.take(n_steps).to(device)
        losses = torch.empty(n_steps, len(models), device=device)
        for step in range(n_steps):
            x, y = data.batch(batches[step])
            # Sums over models and means over records: no model's gradient depends on the number of models.
            loss = record_losses(model(x), y, data.task).sum(dim=1) / recipe.batch_size
            rate = learning_rate(recipe, epoch * n_steps + step, recipe.epochs * n_steps)
            optimizer.step(flat.gradients(loss.sum()), rate)
            if average is not None and recipe.ema:
                average.lerp_(flat.weights, 1 - recipe.ema)
            losses[step] = loss.detach()
        watch.look(losses, flat.weights, epoch * n_steps)
        active &= ~watch.failed_slots()
        if active.any():
            report(epoch + 1, float(losses.mean(dim=0).cpu()[active].mean()))
        if choice and (epoch + 1) % choice.stopping.every == 0:
            if average is not None:
                flat.exchange(average)
            choice.look(_mean_losses(model, data, validation), flat.weights, (epoch + 1) * n_steps, active)
            if average is not None:
                flat.exchange(average)
            watch.ignore(choice.finished)
            active &= ~choice.finished
        if not active.any():
            break

    with torch.no_grad():
        if choice:
            flat.weights.copy_(choice.weights)
        elif average is not None:
            flat.weights.copy_(average)
    steps = choice.steps if choice else [recipe.epochs * n_steps] * len(models)
    return Trained(model, watch.failed, steps)


def predict(model: nn.Module, data: Resident, rows: NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
    """Logits [K, n, C] of all models for `rows`, block after block, each with its place within `rows`."""
    numbers = torch.from_numpy(rows).to(data.inputs.device)
    with torch.inference_mode():
        for first in range(0, len(rows), BLOCK):
            x, _ = data.batch(numbers[None, first : first + BLOCK])
            yield slice(first, first + x.shape[1]), model(x)


def _mean_losses(model: nn.Module, data: Resident, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    parts = []
    for place, logits in predict(model, data, rows):
        _, labels = data.batch(torch.from_numpy(rows[None, place]).to(data.inputs.device))
        parts.append(record_losses(logits, labels, data.task).double().cpu().numpy())
    # One model at a time: numpy sums a lone row in another order than a row of several.
    return np.array([losses.mean() for losses in np.concatenate(parts, axis=1)])


class _Watch:
    """Which models have failed, and why; models that are finished by then no longer count."""

    def __init__(self, n_models: int) -> None:
        self.failed: dict[int, str] = {}
        self._ignored = np.zeros(n_models, dtype=bool)

    def look(self, losses: Tensor, weights: Tensor, first_step: int) -> None:
        """Check an epoch's losses [steps, K] and the weights [K, P] after it."""
        finite = torch.isfinite(losses).cpu().numpy()
        sound = torch.isfinite(weights).all(dim=1).cpu().numpy()
        for slot in np.flatnonzero(~(finite.all(axis=0) & sound) & ~self._ignored & ~self.failed_slots()):
            if finite[:, slot].all():
                reason = f"weights not finite after step {first_step + len(finite)}"
            else:
                reason = f"loss not finite in step {first_step + int(np.argmin(finite[:, slot])) + 1}"
            self.failed[int(slot)] = reason

    def failed_slots(self) -> NDArray[np.bool_]:
        """Mask [K] of failed models."""
        mask = np.zeros(len(self._ignored), dtype=bool)
        mask[list(self.failed)] = True
        return mask

    def ignore(self, finished: NDArray[np.bool_]) -> None:
        """Models whose result is already kept can no longer fail."""
        self._ignored = finished


class _Choice:
    """Early stopping: each model's weights of its lowest validation loss so far, and who is finished."""

    def __init__(self, stopping: EarlyStopping, weights: Tensor) -> None:
        self.stopping = stopping
        self.weights = weights.clone()
        self.steps = [0] * len(weights)
        self.finished = np.zeros(len(weights), dtype=bool)
        self._best = np.full(len(weights), np.inf)
        self._stale = np.zeros(len(weights), dtype=int)

    def look(self, losses: NDArray[np.float64], weights: Tensor, step: int, active: NDArray[np.bool_]) -> None:
        """Take the weights [K, P] of the models whose validation loss [K] fell; finish those out of patience."""
        candidates = active & ~self.finished
        better = candidates & (losses < self._best)
        self._best[better] = losses[better]
        slots = np.flatnonzero(better)
        index = torch.from_numpy(slots).to(weights.device)
        self.weights[index] = weights[index]
        for slot in slots:
            self.steps[slot] = step
        self._stale[candidates] += 1
        self._stale[better] = 0
        self.finished |= candidates & (self._stale >= self.stopping.patience)
