"""The training job: chunks, queries, failures and what the file holds."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_jobs import NETWORK, QUERIES, chunk, recipe

from tailrisk.config.architectures import Logistic
from tailrisk.config.base import canonical
from tailrisk.config.sources import Simulated
from tailrisk.config.study import Running
from tailrisk.datasets.contract import data_hash, open_prepared
from tailrisk.datasets.prepare import prepare
from tailrisk.errors import UserError
from tailrisk.membership import membership
from tailrisk.tables import metadata, read_table, write_json, write_table
from tailrisk.training import engine, trainer
from tailrisk.training.halves import record_members, training_rows
from tailrisk.training.job import run_chunk
from tailrisk.training.progress import Progress


@pytest.fixture(scope="module")
def whole(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models 0 to 7 in one undisturbed job."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = run_chunk(dataset, recipe(), QUERIES, range(8), folder / "store", folder / "0-7.parquet", progress=None)
    assert (outcome.served, outcome.trained, outcome.failed) == (0, 8, 0)
    return folder / "0-7.parquet"


def write_dataset(folder: Path, inputs: np.ndarray, labels: np.ndarray, task: str, n_outputs: int) -> Path:
    n = len(inputs)
    split = np.array(["audit", "validation", "test", "audit"])[np.arange(n) % 4]
    names = [f"p{number}" for number in range(n)]
    records = pd.DataFrame({"record": names, "patient": names, "split": split})
    folder.mkdir()
    write_table(folder / "records.parquet", "records", records)
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", labels)
    digest = data_hash(records, inputs, labels)
    classes = {f"c{number}": 0 for number in range(max(n_outputs, 2))}
    write_json(folder / "card.json", {"task": task, "classes": classes, "n_outputs": n_outputs, "data_hash": digest})
    return folder


def test_the_chunk_holds_every_model_and_audit_record(dataset: Path, whole: Path) -> None:
    prepared, frame = open_prepared(dataset), read_table(whole, "chunk")
    rows = prepared.rows("audit")
    assert frame["model"].tolist() == np.repeat(np.arange(8), len(rows)).tolist()
    assert np.array_equal(frame["row"], np.tile(rows, 8))
    expected = membership(1, prepared.patient[rows].tolist(), range(8))
    assert np.array_equal(frame["member"].to_numpy().reshape(8, -1), expected)
    assert set(frame["query"]) == {"clean"}
    assert np.isfinite(frame["confidence"]).all()
    stamp = metadata(whole, "chunk")
    assert stamp["data_hash"] == prepared.data_hash
    assert stamp["recipe"]["model"] == NETWORK.model_dump()
    assert stamp["capacity"] == 30 * 17 + 17 + 2 * 17 + 2 * (17 * 17 + 17) + 2 * 17 + 17 + 1
    assert stamp["failed"] == {}
    assert [row[:3] for row in stamp["performance"]] == [
        [model, split, "auroc"] for model in range(8) for split in ("test", "validation")
    ]
    assert np.mean([row[3] for row in stamp["performance"]]) > 0.97
    member = frame.loc[frame["member"], "confidence"].mean()
    assert member > frame.loc[~frame["member"], "confidence"].mean()


@pytest.mark.parametrize("stack_size", [1, 3])
def test_splitting_a_chunk_changes_no_confidence(dataset: Path, whole: Path, tmp_path: Path, stack_size: int) -> None:
    parts = [
        chunk(dataset, tmp_path, part, running=Running(stack_size=stack_size))[0] for part in (range(4), range(4, 8))
    ]
    joined = pd.concat([read_table(part, "chunk") for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(joined, read_table(whole, "chunk"), check_categorical=False, check_exact=True)
    served_all, outcome = chunk(dataset, tmp_path, range(8))
    assert (outcome.served, outcome.trained) == (8, 0)
    assert served_all.read_bytes() == whole.read_bytes()


def test_a_new_query_asks_the_same_models_again(dataset: Path, whole: Path, tmp_path: Path) -> None:
    chunk(dataset, tmp_path, range(8))
    renamed = canonical({"again": {"kind": "clean"}, "clean": {"kind": "clean"}})
    output, outcome = chunk(dataset, tmp_path, range(8), queries=renamed)
    assert outcome.served == 8  # the store knows queries by what they ask, not by name
    frame, expected = read_table(output, "chunk"), read_table(whole, "chunk")
    for name in ("again", "clean"):
        part = frame[frame["query"] == name].reset_index(drop=True)
        assert np.array_equal(part["confidence"], expected["confidence"])


def test_new_queries_are_asked_of_kept_weights(dataset: Path, whole: Path, tmp_path: Path) -> None:
    """Weights kept: nothing is trained again. Not kept: the same models are trained again, to the same answers."""
    hidden = {"kind": "redacted", "hidden": ["mean radius"], "fill": "median"}
    both = canonical({"clean": {"kind": "clean"}, "part": {"known": None, "hidden_region": None, **hidden}})
    results = {}
    for keep in (True, False):
        folder = tmp_path / str(keep)
        chunk(dataset, folder, range(8), running=Running(keep_weights=keep))
        assert bool(list(folder.rglob("weights.pt"))) == keep
        before = {path: path.stat().st_mtime_ns for path in (folder / "store").rglob("*.parquet")}
        results[keep], outcome = chunk(dataset, folder, range(8), queries=both, running=Running(keep_weights=keep))
        assert (outcome.served, outcome.asked, outcome.trained) == ((0, 8, 0) if keep else (0, 0, 8))
        assert all(path.stat().st_mtime_ns == then for path, then in before.items())  # old answers stay
        assert chunk(dataset, folder, range(8), queries=both)[1].served == 8
    assert results[True].read_bytes() == results[False].read_bytes()
    frame, expected = read_table(results[True], "chunk"), read_table(whole, "chunk")
    clean, part = (frame[frame["query"] == name].reset_index(drop=True) for name in ("clean", "part"))
    assert np.array_equal(clean["confidence"], expected["confidence"])
    assert np.abs(part["confidence"] - clean["confidence"]).max() > 0.1


def test_all_answers_of_a_number_come_from_one_model(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trained again to another model, as on other hardware, a number's old answers go, and a warning says so."""
    output, _ = chunk(dataset, tmp_path, range(2))
    before = read_table(output, "chunk")
    part = {"part": {"kind": "redacted", "hidden": ["mean radius"]}}
    both = canonical({"clean": {"kind": "clean"}} | part)
    rate = engine.learning_rate
    monkeypatch.setattr(engine, "learning_rate", lambda *arguments: rate(*arguments) * 1.01)
    again, _ = chunk(dataset, tmp_path, range(2), queries=both)
    assert "target model 0, trained again on this machine or library, is not the one that was stored" in caplog.text
    fresh, _ = chunk(dataset, tmp_path / "fresh", range(2), queries=both)
    assert again.read_bytes() == fresh.read_bytes()
    clean = read_table(again, "chunk").loc[lambda frame: frame["query"] == "clean", "confidence"]
    assert not np.array_equal(clean, before["confidence"])


def test_out_of_memory_halves_the_stack(
    dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []

    def small_device(training, data, models, *rest, **options):
        sizes.append(len(models))
        if len(models) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return engine.train(training, data, models, *rest, **options)

    monkeypatch.setattr(trainer, "train", small_device)
    output, _ = chunk(dataset, tmp_path, range(8), running=Running(stack_size=8))
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert output.read_bytes() == whole.read_bytes()
    assert "out of memory with 8 models at once: going on with 4" in capsys.readouterr().out


def test_no_memory_for_one_model_is_a_sentence(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*arguments, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr(trainer, "train", no_memory)
    with pytest.raises(UserError, match=r"too small for one target model .* raise recipe\.accumulation"):
        chunk(dataset, tmp_path, range(2))


def test_a_failed_model_is_tried_once_more_where_the_recipe_allows(dataset: Path, tmp_path: Path) -> None:
    wild = {"optimizer": "sgd", "learning_rate": 1e30}
    output, outcome = chunk(dataset, tmp_path, range(4), recipe=recipe(**wild, retry=1e-33))
    assert (outcome.trained, outcome.failed) == (4, 0)
    stamp = metadata(output, "chunk")
    assert (stamp["failed"], stamp["retried"]) == ({}, [0, 1, 2, 3])
    frame = read_table(output, "chunk")
    slow, _ = chunk(dataset, tmp_path / "slow", range(4), recipe=recipe(**wild | {"learning_rate": 1e-3}))
    np.testing.assert_allclose(frame["confidence"], read_table(slow, "chunk")["confidence"], rtol=1e-5)
    output, outcome = chunk(dataset, tmp_path / "twice", range(4), recipe=recipe(**wild, retry=0.5))
    assert outcome.failed == 4
    assert chunk(dataset, tmp_path / "twice", range(4), recipe=recipe(**wild, retry=0.5))[1].served == 4


def test_recipes_that_do_not_fit_the_records_are_sentences(dataset: Path, tmp_path: Path) -> None:
    network = {"architecture": "wide_resnet", "depth": 10, "width": 1}
    with pytest.raises(UserError, match="wide_resnet"):
        chunk(dataset, tmp_path, range(2), recipe=recipe(network))
    with pytest.raises(UserError, match="weak"):
        chunk(dataset, tmp_path, range(2), recipe=recipe(augmentation="weak"))


def test_failed_models_are_named_and_have_no_rows(dataset: Path, tmp_path: Path) -> None:
    wild = recipe(optimizer="sgd", learning_rate=1e30)
    output, outcome = chunk(dataset, tmp_path, range(4), recipe=wild)
    assert (outcome.trained, outcome.failed) == (4, 4)
    stamp = metadata(output, "chunk")
    assert set(stamp["failed"]) == {"0", "1", "2", "3"}
    assert all("not finite" in reason for reason in stamp["failed"].values())
    assert len(read_table(output, "chunk")) == 0
    content = output.read_bytes()
    again, outcome = chunk(dataset, tmp_path, range(4), recipe=wild)
    assert (outcome.served, outcome.trained, outcome.failed) == (4, 0, 4)
    assert again.read_bytes() == content


def test_controls_are_drawn_into_halves_but_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "simulated"
    prepare("simulated", Simulated(source="simulated", patients=120, max_records=3, controls=0.3), folder)
    prepared = open_prepared(folder)
    drawn: list[torch.Tensor] = []
    take = engine.Orders.take

    def watched(self: engine.Orders, n_steps: int) -> torch.Tensor:
        drawn.append(take(self, n_steps))
        return drawn[-1]

    monkeypatch.setattr(engine.Orders, "take", watched)
    output, _ = chunk(folder, tmp_path, range(6), recipe=recipe(Logistic(architecture="logistic"), epochs=20))
    frame = read_table(output, "chunk")
    control = prepared.control[frame["row"]]
    assert control.any()
    assert 0.3 < frame.loc[control, "member"].mean() < 0.7
    used = torch.cat(drawn).permute(1, 0, 2).reshape(6, -1).numpy()
    rows = prepared.rows("audit")
    members = record_members(prepared, 1, range(6), rows)
    for model in range(6):
        assert set(used[model]) == set(rows[members[model] & ~prepared.control[rows]])


def test_a_half_without_a_class_is_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros(80, dtype=np.int64)
    labels[1::2] = 1
    labels[0] = 2  # one audit patient alone has class 2
    inputs = rng.normal(size=(80, 3)).astype(np.float32)
    folder = write_dataset(tmp_path / "rare", inputs, labels, "multiclass", 3)
    member = membership(1, ["p0"], [0])[0, 0]
    with pytest.raises(UserError, match=rf"pair 0: .* target model {int(member)} has no record of class 'c2'"):
        chunk(folder, tmp_path, range(2))
    several = np.stack([labels == 1, labels == 2], axis=1).astype(np.float32)
    folder = write_dataset(tmp_path / "labels", inputs, several, "multilabel", 2)
    with pytest.raises(UserError, match=r"pair 0: .* has no record of label 'c1' with value 1"):
        chunk(folder, tmp_path, range(2))


@pytest.mark.parametrize(("task", "n_outputs"), [("multiclass", 3), ("multilabel", 2)])
def test_other_tasks_run_end_to_end(tmp_path: Path, task: str, n_outputs: int) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, size=(400, 6)).astype(np.uint8)
    scores = inputs[:, :n_outputs].astype(float)
    labels: np.ndarray = scores.argmax(axis=1)
    if task == "multilabel":
        labels = (scores > 128).astype(np.float32)
        labels[rng.random(labels.shape) < 0.1] = np.nan
    folder = write_dataset(tmp_path / task, inputs, labels, task, n_outputs)
    output, outcome = chunk(folder, tmp_path, range(2), recipe=recipe(epochs=30))
    assert outcome.failed == 0
    assert np.mean([row[3] for row in metadata(output, "chunk")["performance"]]) > 0.9


def test_training_rows_are_members_without_controls(dataset: Path) -> None:
    prepared = open_prepared(dataset)
    rows = prepared.rows("audit")
    members = record_members(prepared, 1, range(4), rows)
    pools = training_rows(prepared, range(4), rows, members)
    assert np.array_equal(np.sort(np.concatenate(pools[:2])), rows)  # complementary halves
    assert not set(np.concatenate(pools)) - set(rows)


def test_a_damaged_recipe_is_a_sentence(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="recipe is not valid JSON"):
        chunk(dataset, tmp_path, range(2), recipe="{")
    with pytest.raises(UserError, match=r"recipe: recipe\.epochs"):
        chunk(dataset, tmp_path, range(2), recipe=recipe().replace('"epochs":4', '"epochs":-4'))


def test_progress_is_printed_line_by_line(dataset: Path, tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = Progress("lr.bc 0-7", planned=8, epochs=10, stream=stream, interval=0.0)
    progress.epoch(5, 0.25, stack=4)
    progress.stack(4)
    progress.epoch(1, 0.5, stack=4)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("lr.bc 0-7: 0 of 8 models · next 4: epoch 5/10, loss 0.2500 · about 0:00 left")
    assert second.startswith("lr.bc 0-7: 4 of 8 models · next 4: epoch 1/10, loss 0.5000")


def test_damaged_files_are_trained_again(
    dataset: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chunk(dataset, tmp_path, range(8))
    answers = sorted((tmp_path / "store").rglob("*.parquet"))
    answers[0].write_bytes(answers[0].read_bytes()[:50])
    notes = sorted((tmp_path / "store").rglob("performance.json"))
    notes[5].write_text('{"status": "do')
    capsys.readouterr()
    output, outcome = chunk(dataset, tmp_path, range(8))
    assert (outcome.served, outcome.trained) == (6, 2)
    assert capsys.readouterr().out.endswith("6 served from the store, 2 trained, 0 failed\n")
    assert output.read_bytes() == whole.read_bytes()
