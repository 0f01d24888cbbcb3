"""How much memory a stack needs, predicted from its shapes before anything is allocated."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tailrisk.config.recipe import Training
from tailrisk.datasets.contract import Task
from tailrisk.errors import UserError
from tailrisk.models import build, is_stacked
from tailrisk.training.losses import record_losses
from tailrisk.training.resident import Resident


@dataclass(frozen=True)
class Need:
    """Bytes that a stack takes: so many for each of its models, and so many more however many there are."""

    each: int
    shared: int

    def of(self, size: int) -> int:
        """Bytes of a stack of `size` models."""
        return size * self.each + self.shared


def predict_need(training: Training, data: Resident) -> Need | None:
    """What a stack of these models takes beside the data; None for a model of the user's that cannot be predicted.

    Each model has weights and gradients, the moments of the optimiser, and the average and the kept weights where the
    recipe asks for them. What a step keeps for its backward pass is counted on tensors without storage: for every
    model where they are stacked, else once, as one model computes at a time.
    """
    recipe = training.recipe
    copies = 2 + (2 if recipe.optimizer == "adamw" else 1) + bool(recipe.ema) + bool(recipe.early_stopping)
    try:
        weights, saved = _count(training, data, recipe.batch_size // recipe.accumulation)
    except (NotImplementedError, RuntimeError, UserError):
        return None
    state = 4 * copies * weights
    return Need(state + saved, 0) if is_stacked(training.model) else Need(state, saved)


def _count(training: Training, data: Resident, batch: int) -> tuple[int, int]:
    """Parameters of one model, and the bytes that a step with `batch` records takes."""
    with torch.device("meta"):
        model = build(training.model, data.shape, data.n_outputs, [0]).to("meta")
        x = torch.empty(1, batch, *data.inputs.shape[1:])
    seen: dict[int, int] = {}
    held: list[Tensor] = []  # a storage that is freed would lend its address to the next one

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage.nbytes()
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = model(x)
        record_losses(logits, _labels(data.task, logits), data.task).sum()
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    activations = [size for storage, size in seen.items() if storage not in own]
    # The gradient that flows back takes as much as the largest of them, twice where paths join.
    return sum(p.numel() for p in model.parameters()), sum(activations) + 2 * max(activations, default=0)


def _labels(task: Task, logits: Tensor) -> Tensor:
    if task == "multilabel":
        return torch.empty_like(logits)
    kind = torch.int64 if task == "multiclass" else torch.float32
    return torch.empty(logits.shape[:-1], dtype=kind, device="meta")


def fitting(size: int, need: Need | None, free: int) -> int:
    """The stack of at most `size` models, halved until it fits into `free` bytes; 1 where nothing does."""
    while size > 1 and need is not None and need.of(size) > free:
        size = math.ceil(size / 2)
    return size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no more memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
