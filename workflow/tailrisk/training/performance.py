"""Diagnostic performance of target models."""

import numpy as np
from numpy.typing import NDArray

from tailrisk.datasets.contract import Task


def auroc(logits: NDArray[np.float32], labels: NDArray[np.generic], task: Task) -> float:
    """AUROC of one model's logits [N, C] for labels [N] or [N, C].

    Macro average over classes (one against the rest) or labels, of those that occur with both values; NaN if none do.
    """
    z, y = logits.astype(np.float64), np.asarray(labels)
    if task == "binary":
        columns = [(y, z[:, 0])]
    elif task == "multiclass":
        share = np.exp(z - z.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        columns = [(y == label, share[:, label]) for label in range(z.shape[1])]
    else:
        observed = ~np.isnan(y.astype(np.float64))
        columns = [(y[observed[:, label], label], z[observed[:, label], label]) for label in range(z.shape[1])]
    values = [_rank_auroc(truth == 1, score) for truth, score in columns if len(np.unique(truth)) == 2]
    return float(np.mean(values)) if values else float("nan")


def _rank_auroc(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    """Mann–Whitney: the share of (positive, negative) pairs in the right order, ties counted half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))
