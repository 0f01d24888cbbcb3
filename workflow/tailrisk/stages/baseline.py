"""The baseline: plain scikit-learn on the half that target model 0 sees, so that nobody audits a broken model."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.tables import write_json
from tailrisk.training.halves import record_members, training_rows
from tailrisk.training.performance import auroc

AREAS = 16
PERCENTILES = [0, 1, 5, 25, 50, 75, 95, 99, 100]
BLOCK = 512
"""Records that are described at a time, to bound memory."""


def baseline(dataset: Path, seed: int, output: Path) -> None:
    """Write {model, metric, value, n_train}: test AUROC (macro over classes or labels) of a logistic regression.

    Tables are taken as they are. Of images it sees the brightness of 16 × 16 areas, of signals percentiles of every
    lead: a few hundred numbers, so that it is fitted in seconds, at any size of dataset or input.
    """
    data = open_prepared(dataset)
    audit, test = data.rows("audit"), data.rows("test")
    (train,) = training_rows(data, [0], audit, record_members(data, seed, [0], audit))
    x, x_test, y = _features(data, train), _features(data, test), data.labels[train]
    if data.task == "multilabel":
        logits = np.stack([_logits(data, x, label, x_test) for label in y.T], axis=1)
    else:
        logits = _logits(data, x, y, x_test).reshape(len(test), -1)
    name = "scikit-learn logistic regression"
    shown = {
        2: name,
        3: f"{name} on percentiles of every lead",
        4: f"{name} on the brightness of {AREAS} × {AREAS} areas",
    }
    value = auroc(logits.astype(np.float32), data.labels[test], data.task)
    write_json(output, {"model": shown[data.inputs.ndim], "metric": "auroc", "value": value, "n_train": len(train)})


def _logits(
    data: Prepared, x: NDArray[np.float32], y: NDArray[np.generic], x_test: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Logits of the test records: [N], or [N, C] of several classes; 0 for a label that is observed with one value."""
    observed = ~np.isnan(y.astype(np.float64))
    if len(np.unique(y[observed])) < 2:
        return np.zeros(len(x_test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline may stop early
        return np.asarray(_model(data).fit(x[observed], y[observed]).decision_function(x_test))


def _model(data: Prepared) -> ClassifierMixin:
    if data.inputs.ndim == 2:
        return LogisticRegression(max_iter=300)
    # Neighbouring areas and percentiles say nearly the same: a stronger penalty than for a table.
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))


def _features(data: Prepared, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the baseline sees of the records in `rows` [N, F]."""
    kinds: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {2: np.asarray, 3: _percentiles, 4: _area_sums}
    describe = kinds[data.inputs.ndim]
    blocks = [describe(data.inputs[rows[start : start + BLOCK]]) for start in range(0, len(rows), BLOCK)]
    return np.concatenate(blocks).astype(np.float32).reshape(len(rows), -1)


def _percentiles(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Percentiles of every lead [N, leads, 9] of signals [N, leads, samples]: they do not mind when a beat comes."""
    return np.moveaxis(np.percentile(signals, PERCENTILES, axis=2), 0, 2)


def _area_sums(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sums [N, channels, 16, 16] over areas of about equal size of images [N, channels, height, width]."""
    sums = images.astype(np.float64)
    for axis, length in ((2, images.shape[2]), (3, images.shape[3])):
        edges = np.linspace(0, length, min(AREAS, length) + 1).astype(int)
        sums = np.add.reduceat(sums, edges[:-1], axis=axis)
    return sums
