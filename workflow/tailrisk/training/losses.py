"""The training loss of every record."""

import torch
from torch import Tensor
from torch.nn import functional

from tailrisk.datasets.contract import Task


def record_losses(logits: Tensor, labels: Tensor, task: Task, smoothing: float = 0.0) -> Tensor:
    """Losses [K, B] of logits [K, B, C]; labels [K, B] or [1, B], for several labels […, C] with NaN for unobserved.

    Cross-entropy, binary (C = 1), over classes, or as the mean over all C labels with 0 for an unobserved one. With
    `smoothing` a label is that share of the way from its class to the even spread over all (both) classes.
    """
    if task == "multiclass":
        target = labels.expand(logits.shape[:-1])
        return functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing
        ).view(logits.shape[:-1])
    if task == "binary":
        target = labels.to(logits.dtype).expand(logits.shape[:-1])
        target = target * (1 - smoothing) + smoothing / 2 if smoothing else target
        return functional.binary_cross_entropy_with_logits(logits[..., 0], target, reduction="none")
    target = labels.expand(logits.shape)
    observed = torch.nan_to_num(target)
    observed = observed * (1 - smoothing) + smoothing / 2 if smoothing else observed
    losses = functional.binary_cross_entropy_with_logits(logits, observed, reduction="none")
    return torch.where(target.isnan(), 0.0, losses).mean(dim=-1)
