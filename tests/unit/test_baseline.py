"""The plain baselines of images and signals."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_sources import nih
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.datasets.prepare import prepare
from tailrisk.stages.baseline import baseline
from tailrisk.tables import write_json, write_table
from tailrisk.training.halves import record_members, training_rows


def value(folder: Path, tmp_path: Path) -> dict:
    baseline(folder, 0, tmp_path / "baseline.json")
    return json.loads((tmp_path / "baseline.json").read_text())


def test_baselines_learn_from_images_and_signals(nih_folder, nih_prepared, ptbxl_prepared, tmp_path) -> None:
    finding = value(nih_prepared, tmp_path)
    assert finding["model"] == "scikit-learn logistic regression on the brightness of 16 × 16 areas"
    assert finding["value"] > 0.65
    prepare("view", nih(nih_folder, target="view"), tmp_path / "view")
    assert value(tmp_path / "view", tmp_path)["value"] > 0.9
    superclasses = value(ptbxl_prepared, tmp_path)
    assert superclasses["model"] == "scikit-learn logistic regression on percentiles of every lead"
    assert superclasses["value"] > 0.65


def direct(data: Prepared, means: np.ndarray) -> float:
    """Test AUROC of the baseline, fitted to `means` [N, F] of areas without the package's code for it."""
    audit, test = data.rows("audit"), data.rows("test")
    (train,) = training_rows(data, [0], audit, record_members(data, 0, [0], audit))
    scale = StandardScaler().fit(means[train])
    model = LogisticRegression(C=0.01, max_iter=300).fit(scale.transform(means[train]), data.labels[train])
    return roc_auc_score(data.labels[test], model.decision_function(scale.transform(means[test])))


def test_baseline_of_images_against_a_direct_fit(nih_prepared, tmp_path) -> None:
    data = open_prepared(nih_prepared)
    means = data.inputs.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(data.inputs), -1)
    # A pair of test records may change places by rounding: 1 of about 5,000 pairs.
    assert value(nih_prepared, tmp_path)["value"] == pytest.approx(direct(data, means), abs=5e-4)


def written(folder: Path, data: Prepared, inputs: np.ndarray, labels: np.ndarray) -> Path:
    """A prepared dataset with the records of `data`, and other inputs and labels."""
    folder.mkdir()
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", labels)
    frame = pd.DataFrame({"record": data.record, "patient": data.patient, "split": data.split})
    write_table(folder / "records.parquet", "records", frame)
    classes = [str(number) for number in range(labels.shape[1])]
    card = {"task": "multilabel", "classes": classes, "n_outputs": len(classes), "data_hash": "x"}
    write_json(folder / "card.json", card)
    return folder


def test_baseline_with_odd_sizes_and_rare_labels(nih_prepared, tmp_path) -> None:
    data = open_prepared(nih_prepared)
    odd = np.array(data.inputs[:, :, :37, :11])  # areas of two or three lines, and a column each
    label = data.labels.astype(np.float32)
    hidden = np.where(np.arange(len(label)) % 5 == 0, np.nan, label)
    rare = np.where(data.split == "test", label, 0)  # never 1 in a half: no more can be said of it than chance
    values = [
        value(written(tmp_path / name, data, odd, np.stack(columns, axis=1)), tmp_path)["value"]
        for name, columns in {"one": [label], "hidden": [hidden], "both": [label, rare], "all": [hidden, rare]}.items()
    ]
    one, hidden_alone, both, everything = values
    lines = [range(37 * k // 16, 37 * (k + 1) // 16) for k in range(16)]
    means = np.array([[image[:, rows].mean(axis=1) for rows in lines] for image in odd[:, 0].transpose(0, 2, 1)])
    assert one == pytest.approx(direct(data, means.reshape(len(means), -1)), abs=5e-4)
    assert both == pytest.approx((one + 0.5) / 2)
    assert everything == pytest.approx((hidden_alone + 0.5) / 2)
