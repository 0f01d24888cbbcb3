"""The training loss of every record."""

import torch
from torch import Tensor
from torch.nn import functional

from tailrisk.datasets.contract import Task


def record_losses(logits: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Losses [K, B] of logits [K, B, C]; labels [K, B] or [1, B], for several labels […, C] with NaN for unobserved.

    Cross-entropy, binary (C = 1), over classes, or as the mean over all C labels with 0 for an unobserved one.
    """
    if task == "binary":
        target = labels.to(logits.dtype).expand(logits.shape[:-1])
        return functional.binary_cross_entropy_with_logits(logits[..., 0], target, reduction="none")
    if task == "multiclass":
        target = labels.expand(logits.shape[:-1])
        return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(
            logits.shape[:-1]
        )
    target = labels.expand(logits.shape)
    losses = functional.binary_cross_entropy_with_logits(logits, torch.nan_to_num(target), reduction="none")
    return torch.where(target.isnan(), 0.0, losses).mean(dim=-1)
