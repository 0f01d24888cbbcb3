"""The baseline: plain scikit-learn on the half that target model 0 sees, so that nobody audits a broken model."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.multiclass import OneVsRestClassifier

from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.tables import write_json
from tailrisk.training.halves import record_members, training_rows


def baseline(dataset: Path, seed: int, output: Path) -> None:
    """Write {model, metric, value, n_train}: test AUROC (macro over classes or labels) of a logistic regression."""
    data = open_prepared(dataset)
    audit = data.rows("audit")
    (train,) = training_rows(data, [0], audit, record_members(data, seed, [0], audit))
    test = data.rows("test")
    inputs = {"train": _flat(data, train), "test": _flat(data, test)}
    model = LogisticRegression(max_iter=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline may stop early
        if data.task == "multilabel":
            observed = ~np.isnan(data.labels[train]).any(axis=1)
            fitted = OneVsRestClassifier(model).fit(inputs["train"][observed], data.labels[train][observed])
        else:
            fitted = model.fit(inputs["train"], data.labels[train])
    scores = fitted.predict_proba(inputs["test"])
    if data.task == "binary":
        value = roc_auc_score(data.labels[test], scores[:, 1])
    elif data.task == "multiclass":
        value = roc_auc_score(data.labels[test], scores, multi_class="ovr", labels=np.arange(data.n_outputs))
    else:
        known = [~np.isnan(data.labels[test, label]) for label in range(data.n_outputs)]
        value = np.mean([roc_auc_score(data.labels[test][k, i], scores[k, i]) for i, k in enumerate(known)])
    write_json(
        output,
        {"model": "scikit-learn logistic regression", "metric": "auroc", "value": float(value), "n_train": len(train)},
    )


def _flat(data: Prepared, rows: np.ndarray) -> np.ndarray:
    return np.asarray(data.inputs[rows], dtype=np.float32).reshape(len(rows), -1)
