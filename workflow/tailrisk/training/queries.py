"""How the attacker asks: the kinds of queries, each from trained models to confidences."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailrisk.attacks.confidence import confidence
from tailrisk.training.engine import predict
from tailrisk.training.resident import Resident


def _clean(model: nn.Module, data: Resident, rows: NDArray[np.int64], n_models: int) -> NDArray[np.float32]:
    answers = np.empty((n_models, len(rows)), dtype=np.float32)
    for place, logits in predict(model, data, rows):
        labels = data.labels[rows[place]].cpu().numpy()
        answers[:, place] = confidence(logits.cpu().numpy(), labels, data.task)
    return answers


KINDS: dict[str, Callable[[nn.Module, Resident, NDArray[np.int64], int], NDArray[np.float32]]] = {"clean": _clean}


def ask(query: Any, model: nn.Module, data: Resident, rows: NDArray[np.int64], n_models: int) -> NDArray[np.float32]:
    """Confidences [K, len(rows)] that `n_models` = K stacked models give the true labels of `rows` under `query`."""
    return KINDS[query.kind](model, data, rows, n_models)
