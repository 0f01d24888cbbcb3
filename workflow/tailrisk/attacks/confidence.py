"""The confidence score: how strongly a target model believes the true label rather than any other."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confidence(logits: ArrayLike, labels: ArrayLike, task: str) -> NDArray[np.float64]:
    """Logit-scaled score log p(true) − log p(not true), float64, shape logits.shape[:-1].

    logits [..., C] come before the sigmoid or softmax; labels broadcast against them.
    - binary (C = 1), labels 0/1 [...]: (2y − 1)·logit.
    - multiclass (C ≥ 2), labels 0…C−1 [...]: log p_y − log Σ_{c≠y} p_c, by log-sum-exp; the softmax
      normaliser cancels, so that the score stays exact however certain the model is.
    - multilabel, labels 0/1 or NaN (unobserved) [..., C]: Σ over observed labels of (2y − 1)·logit, the
      log-odds of the true label vector against the fully flipped one; 0 where no label is observed.

    Raises ValueError for an unknown task or a number of logits that does not fit it.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(labels)
    if task == "binary":
        if z.shape[-1] != 1:
            raise ValueError(f"a binary task has one logit a record, not {z.shape[-1]}")
        return (2.0 * y - 1.0) * z[..., 0]
    if task == "multiclass":
        if z.shape[-1] < 2:
            raise ValueError("a multiclass task needs at least two logits a record")
        return _log_odds_of_class(z, y)
    if task == "multilabel":
        sign = np.where(np.isnan(y.astype(np.float64)), 0.0, 2.0 * y.astype(np.float64) - 1.0)
        return (sign * z).sum(axis=-1)
    raise ValueError(f"unknown task {task!r}: expected binary, multiclass or multilabel")


def loss(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """−log p of a whole vector of labels, Σ log(1 + exp(−(2y − 1)·logit)) over observed ones; logits, labels [..., C].

    For one label (binary, or one class of several) the loss is log(1 + exp(−confidence)) and needs no logits.
    """
    y = np.asarray(labels, dtype=np.float64)
    signed = np.where(np.isnan(y), np.inf, (2.0 * y - 1.0) * np.asarray(logits, dtype=np.float64))
    return np.asarray(np.logaddexp(0.0, -signed).sum(axis=-1))


def _log_odds_of_class(z: NDArray[np.float64], y: NDArray[np.integer]) -> NDArray[np.float64]:
    index = np.broadcast_to(y, z.shape[:-1])[..., None].astype(np.intp)
    true = np.take_along_axis(z, index, axis=-1)[..., 0]
    others = z.copy()
    np.put_along_axis(others, index, -np.inf, axis=-1)
    largest = others.max(axis=-1)
    return true - largest - np.log(np.exp(others - largest[..., None]).sum(axis=-1))
