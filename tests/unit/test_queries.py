"""Queries: each against a brute-force version that asks a single model record by record."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_data import architectures

from tailrisk.attacks.confidence import confidence
from tailrisk.config.queries import Augmented, Clean, Redacted
from tailrisk.config.recipe import Recipe, Training
from tailrisk.datasets.contract import Prepared, data_hash, open_prepared
from tailrisk.models import is_stacked
from tailrisk.tables import write_json, write_table
from tailrisk.training import augment
from tailrisk.training.engine import make
from tailrisk.training.queries import Question
from tailrisk.training.redact import plan_redaction
from tailrisk.training.resident import make_resident
from tailrisk.training.seeds import seed_of

SHAPES = {"table": (31,), "image": (1, 16, 16), "signal": (12, 80)}
CPU = torch.device("cpu")


def prepared(folder: Path, kind: str, n: int = 90, task: str = "binary") -> Prepared:
    """A prepared dataset of `n` records of n/2 patients; with two labels, the second sometimes unobserved, or one."""
    rng = np.random.default_rng(0)
    shape = SHAPES[kind]
    labels = rng.integers(0, 2, n)
    inputs = (rng.normal(size=(n, *shape)) + labels.reshape(-1, *[1] * len(shape))).astype(np.float32)
    if kind == "image":
        inputs = (inputs * 40 + 100).clip(0, 255).astype(np.uint8)
    patients = np.array([f"p{number // 2}" for number in range(n)])
    split = np.array(["audit", "audit", "validation", "test"])[(np.arange(n) // 2) % 4]
    records = pd.DataFrame({"record": [f"r{number}" for number in range(n)], "patient": patients, "split": split})
    folder.mkdir()
    write_table(folder / "records.parquet", "records", records)
    np.save(folder / "inputs.npy", inputs)
    if task == "multilabel":
        labels = np.stack([labels, rng.choice([0.0, 1.0, np.nan], n)], axis=1).astype(np.float32)
    np.save(folder / "labels.npy", labels)
    names = {"table": [f"f{i}" for i in range(31)], "signal": ["I", "II", *[f"V{i}" for i in range(10)]], "image": []}
    card = {"task": task, "classes": {"a": 0, "b": 0}, "feature_names": names[kind]}
    card["n_outputs"] = 2 if task == "multilabel" else 1
    write_json(folder / "card.json", card | {"data_hash": data_hash(records, inputs, labels)})
    return open_prepared(folder)


def setting(tmp_path: Path, name: str, kind: str, augmentation: str = "none", task: str = "binary"):
    spec, _ = architectures(tmp_path)[name]
    training = Training(
        seed=4, model=spec, recipe=Recipe(epochs=1, batch_size=8, learning_rate=0.1, augmentation=augmentation)
    )
    source = prepared(tmp_path / "data", kind, task=task)
    data = make_resident(source, CPU, is_stacked(spec))
    model, _ = make(training, data, [0, 5, 9])
    return training, source, data, model, source.rows("audit")


def one_by_one(data, model, slot: int, stored: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confidences of the model in `slot` for stored inputs, asked a record at a time."""
    model.eval()
    found = []
    for record, label in zip(stored, labels, strict=True):
        x = data.scaled(data.encoded(record[None])) if data.flat else data.scaled(torch.from_numpy(record[None].copy()))
        with torch.no_grad():
            logits = model(x[None])[slot]
        found.append(confidence(logits.numpy(), np.array([label]), "binary")[0])
    return np.array(found)


@pytest.mark.parametrize(
    ("name", "kind"), [("tabular", "table"), ("wrn", "image"), ("resnet1d", "signal"), ("logistic", "image")]
)
def test_clean(tmp_path: Path, name: str, kind: str) -> None:
    training, source, data, model, rows = setting(tmp_path, name, kind)
    answers = Question("q", Clean(kind="clean"), training, source, data, rows).ask(model, 3).confidence
    for slot in range(3):
        expected = one_by_one(data, model, slot, np.asarray(source.inputs[rows]), source.labels[rows])
        np.testing.assert_allclose(answers[slot], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"), [("tabular", "table"), ("wrn", "image"), ("resnet1d", "signal"), ("logistic", "image")]
)
@pytest.mark.parametrize("fill", ["zero", "median", "donor"])
def test_redacted(tmp_path: Path, name: str, kind: str, fill: str) -> None:
    training, source, data, model, rows = setting(tmp_path, name, kind)
    part = {"table": {"known": ["f0", "f3"]}, "image": {"hidden_region": (0.25, 0, 1, 0.5)}, "signal": {"known": ["I"]}}
    query = Redacted(kind="redacted", fill=fill, **part[kind])
    answers = Question("q", query, training, source, data, rows).ask(model, 3).confidence
    plan = plan_redaction(query, source, rows, training.seed, "queries.q")
    stored = np.array(source.inputs[rows])
    whole = np.array(source.inputs[rows])
    for index in range(len(rows)):
        filling = np.asarray(source.inputs[plan.donors[index]]) if plan.fill is None else plan.fill
        stored[index][plan.hidden] = filling[plan.hidden]
    assert not np.array_equal(stored, whole)
    assert np.array_equal(stored[:, ~plan.hidden], whole[:, ~plan.hidden])
    for slot in (0, 2):
        expected = one_by_one(data, model, slot, stored, source.labels[rows])
        np.testing.assert_allclose(answers[slot], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "kind", "augmentation"), [("wrn", "image", "medium"), ("resnet1d", "signal", "ecg")])
def test_augmented(tmp_path: Path, name: str, kind: str, augmentation: str) -> None:
    training, source, data, model, rows = setting(tmp_path, name, kind, augmentation)
    answers = Question("q", Augmented(kind="augmented", views=3), training, source, data, rows).ask(model, 3).confidence
    model.eval()
    total = np.zeros(len(rows))
    for view in range(3):
        generator = torch.Generator().manual_seed(seed_of(4, view, "view"))
        drawn = augment.draw(augmentation, len(rows), data.shape, generator)
        for index, row in enumerate(rows):
            x = data.scaled(torch.from_numpy(np.array(source.inputs[row : row + 1])))
            own = {key: values[index : index + 1] for key, values in drawn.items()}
            with torch.no_grad():
                logits = model(augment.apply(augmentation, x, own)[None])[1]
            total[index] += confidence(logits.numpy(), source.labels[row : row + 1], "binary")[0]
    np.testing.assert_allclose(answers[1], total / 3, rtol=1e-4, atol=1e-5)
    clean = Question("q", Clean(kind="clean"), training, source, data, rows).ask(model, 3).confidence
    assert np.abs(answers - clean).max() > 1e-3


def test_streamed_inputs_give_the_same_bits(tmp_path: Path) -> None:
    """Inputs read from disk a batch ahead, against inputs held on the device."""
    _, source, _, _, _ = setting(tmp_path, "wrn", "image")
    held, streamed = make_resident(source, CPU, False, lambda n: True), make_resident(source, CPU, False)
    assert isinstance(held.inputs, torch.Tensor)
    assert isinstance(streamed.inputs, np.ndarray)
    numbers = [torch.randint(0, 90, (2, 7), generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    for (x, y), (other_x, other_y), rows in zip(held.batches(numbers), streamed.batches(numbers), numbers, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
        expected = np.asarray(source.inputs)[rows.numpy()].astype(np.float32) / 127.5 - 1
        np.testing.assert_allclose(x.numpy(), expected, atol=1e-6)
        assert np.array_equal(y.numpy(), source.labels[rows.numpy()])


@pytest.mark.parametrize(("name", "kind"), [("tabular", "table"), ("resnet1d", "signal")])
def test_several_labels_are_answered_with_their_loss(tmp_path: Path, name: str, kind: str) -> None:
    training, source, data, model, rows = setting(tmp_path, name, kind, task="multilabel")
    answers = Question("q", Clean(kind="clean"), training, source, data, rows).ask(model, 3)
    model.eval()
    for index, row in enumerate(rows):
        stored = source.inputs[row : row + 1]
        x = data.scaled(data.encoded(stored)) if data.flat else data.scaled(torch.from_numpy(np.array(stored)))
        with torch.no_grad():
            logits = model(x[None])[1, 0].numpy()
        p = 1 / (1 + np.exp(-logits.astype(float)))
        label = source.labels[row]
        seen = ~np.isnan(label)
        true = np.where(label == 1, p, 1 - p)[seen]
        assert answers.loss[1, index] == pytest.approx(-np.log(true).sum(), rel=1e-4)
        expected = (np.log(true) - np.log(1 - true)).sum()
        assert answers.confidence[1, index] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    (tmp_path / "single").mkdir()
    single = setting(tmp_path / "single", name, kind)
    assert Question("q", Clean(kind="clean"), *single[:3], single[4]).ask(single[3], 3).loss is None
