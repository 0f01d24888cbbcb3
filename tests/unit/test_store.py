"""The store: finished means complete, and a damaged file means absent."""

import threading
from pathlib import Path

import numpy as np
import pytest

from tailrisk.config.architectures import Logistic
from tailrisk.config.queries import Clean
from tailrisk.config.recipe import Recipe, Training
from tailrisk.training.store import Answers, Finished, Store, lacks

QUERY = Clean(kind="clean")
ROWS = np.array([0, 2, 5, 9], dtype=np.int32)
SCORES = Answers(np.array([1.5, -2.0, 0.25, 30.0], dtype=np.float32))
NOTE = Finished(None, 31, [("test", "auroc", 0.9)], 140, 0.5, {"device": "cpu"})
TRAINING = Training(
    seed=1, model=Logistic(architecture="logistic"), recipe=Recipe(epochs=1, batch_size=2, learning_rate=0.1)
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, TRAINING, "data")


def files(root: Path, pattern: str) -> Path:
    (found,) = root.rglob(pattern)
    return found


def test_gives_back_what_was_put(store: Store) -> None:
    assert lacks(store, 3, [QUERY], ROWS)
    store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    assert not lacks(store, 3, [QUERY], ROWS)
    assert store.finished(3) == NOTE
    answers = store.answers(3, QUERY, ROWS)
    assert answers is not None
    assert answers.confidence.dtype == np.float32
    assert answers.equal(SCORES)
    assert answers.loss is None
    assert store.finished(4) is None
    assert store.answers(3, QUERY, ROWS[:3]) is None


def test_losses_of_several_labels_come_back_and_answers_without_them_are_absent(tmp_path: Path) -> None:
    both = Answers(SCORES.confidence, np.array([0.1, 2.0, 0.7, 0.0], dtype=np.float32))
    store = Store(tmp_path, TRAINING, "data", several_labels=True)
    store.put(3, ROWS, [(QUERY, both)], NOTE)
    answers = store.answers(3, QUERY, ROWS)
    assert answers is not None
    assert np.array_equal(answers.loss, both.loss)
    assert answers.equal(both)
    Store(tmp_path, TRAINING, "data").put(4, ROWS, [(QUERY, SCORES)], NOTE)
    assert lacks(store, 4, [QUERY], ROWS)


def test_a_failed_model_is_finished_without_answers(store: Store) -> None:
    note = Finished("loss not finite in step 3", 31, [], 140, 0.5, {})
    store.put(3, ROWS, [], note)
    assert store.finished(3) == note
    assert not lacks(store, 3, [QUERY], ROWS)


def test_recipe_and_data_keep_models_apart(store: Store, tmp_path: Path) -> None:
    store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    faster = TRAINING.model_copy(update={"recipe": TRAINING.recipe.model_copy(update={"learning_rate": 0.2})})
    assert Store(tmp_path, faster, "data").finished(3) is None
    assert Store(tmp_path, TRAINING, "other data").finished(3) is None
    assert Store(tmp_path, TRAINING, "data").finished(3) == NOTE


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("pattern", ["*.parquet", "performance.json"])
def test_truncated_files_count_as_absent(
    store: Store, tmp_path: Path, share: float, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    path = files(tmp_path, pattern)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert lacks(store, 3, [QUERY], ROWS)
    assert "is damaged" in caplog.text
    assert "and will be made again" in caplog.text
    store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    assert not lacks(store, 3, [QUERY], ROWS)


def test_a_changed_byte_in_the_answers_is_noticed(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, scores = np.arange(5000, dtype=np.int32), Answers(rng.normal(size=5000).astype(np.float32))
    store.put(3, rows, [(QUERY, scores)], NOTE)
    path = files(tmp_path, "*.parquet")
    content = path.read_bytes()
    for place in np.linspace(4, len(content) - 9, 25).astype(int):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        answers = store.answers(3, QUERY, rows)
        assert answers is None or answers.equal(scores)


def test_an_interrupted_put_is_not_finished(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the note is written: the answers alone do not count."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tailrisk.training.store.write_json", full)
        with pytest.raises(OSError, match="No space left"):
            store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    assert lacks(store, 3, [QUERY], ROWS)
    assert not list(tmp_path.rglob("*.tmp"))


def test_readers_never_see_half_a_file_while_two_write(store: Store) -> None:
    store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if lacks(store, 3, [QUERY], ROWS):
                wrong.append(3)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        store.put(3, ROWS, [(QUERY, SCORES)], NOTE)
    stop.set()
    reader.join()
    assert not wrong
