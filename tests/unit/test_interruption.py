"""Jobs that are killed, told to end, or find damaged files: what is resumed, and to the same bytes."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_jobs import QUERIES, chunk, recipe

from tailrisk.config.study import Running
from tailrisk.training import engine, trainer
from tailrisk.training.job import run_chunk

JOB = """
import sys
from pathlib import Path
from tailrisk.config.study import Running
from tailrisk.training.job import run_chunk
data, recipe, queries, store, output = sys.argv[1:]
run_chunk(Path(data), recipe, queries, range(8), Path(store), Path(output), Running(stack_size=2))
"""


SLOW = {"epochs": 40}


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    return chunk(dataset, folder, range(8), recipe=recipe(**SLOW))[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_an_interrupted_job_resumes_where_it_was(
    dataset: Path, undisturbed: Path, tmp_path: Path, number: int, code: int
) -> None:
    store, output = tmp_path / "store", tmp_path / "out" / "0-7.parquet"
    command = [sys.executable, "-c", JOB, str(dataset), recipe(**SLOW), QUERIES, str(store), str(output)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(store.rglob("performance.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, number)
        assert process.wait(30) == code
    finished = len(list(store.rglob("performance.json")))
    assert 2 <= finished < 8
    assert not output.exists()
    if number == signal.SIGTERM:
        assert not list(tmp_path.rglob("*.tmp"))
    resumed = run_chunk(dataset, recipe(**SLOW), QUERIES, range(8), store, output, progress=None)
    assert (resumed.served, resumed.trained) == (finished, 8 - finished)
    assert output.read_bytes() == undisturbed.read_bytes()
    assert not list(store.rglob("checkpoint.pt"))


def test_a_training_is_saved_every_few_minutes_and_goes_on_from_there(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after its third save: the resumed job takes the remaining steps only, in a stack of another size."""
    saves = []

    def killed(self: trainer._Observer, saved: list[engine.Saved]) -> None:
        save(self, saved)
        saves.append(saved[0].step)
        if len(saves) == 3:
            raise KeyboardInterrupt

    save = trainer._Observer.save
    monkeypatch.setattr(trainer._Observer, "save", killed)
    running = Running(stack_size=8, checkpoint_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW), running=running)
    assert saves == [1, 2, 3]
    damaged = next((tmp_path / "store").rglob("5/checkpoint.pt"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    monkeypatch.setattr(trainer._Observer, "save", save)
    steps = []
    step = engine.Optimizer.step

    def counted(self: engine.Optimizer, gradients: torch.Tensor, rate: float, number: int) -> None:
        steps.append((len(gradients), number))
        step(self, gradients, rate, number)

    monkeypatch.setattr(engine.Optimizer, "step", counted)
    output, _ = chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW), running=Running(stack_size=4))
    assert output.read_bytes() == undisturbed.read_bytes()
    assert [first for first in steps if first[1] in {0, 3}] == [(4, 3), (3, 3), (1, 0), (1, 3)]


@pytest.mark.parametrize("at", [5, 13, 39 * 14, 40 * 14 - 1])
def test_sigterm_in_training_saves_after_the_step(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Within an epoch, in its last step, and in the last step of all: the step is finished, nothing is done twice."""
    steps: list[int] = []
    step = engine.Optimizer.step

    def told(self: engine.Optimizer, gradients: torch.Tensor, rate: float, number: int) -> None:
        step(self, gradients, rate, number)
        steps.append(number)
        if number == at and len(steps) == at + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(engine.Optimizer, "step", told)
    with pytest.raises(SystemExit) as ended:
        chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW), running=Running(stack_size=8))
    assert ended.value.code == 143
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 8
    output, _ = chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW), running=Running(stack_size=8))
    assert steps == list(range(40 * 14))
    assert output.read_bytes() == undisturbed.read_bytes()


def test_sigterm_to_a_job_and_its_log_alike_saves(dataset: Path, tmp_path: Path) -> None:
    """As SLURM sends it: the reader of the job's output dies, too, and a line that cannot be printed costs nothing."""
    long = recipe(epochs=100_000)
    store, output = tmp_path / "store", tmp_path / "out" / "0-7.parquet"
    job = shlex.join([sys.executable, "-c", JOB, str(dataset), long, QUERIES, str(store), str(output)])
    log = tmp_path / "log"
    with subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {job} 2>&1 | tee {log}"], start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 90
        while not (log.exists() and "epoch" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(5)  # the next line of progress is due any moment
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        deadline = time.monotonic() + 30
        while len(list(store.rglob("checkpoint.pt"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    assert len(list(store.rglob("checkpoint.pt"))) == 2


def test_sigterm_while_models_are_asked_keeps_a_long_training(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "WORTH_SAVING", 0.0)
    ask = trainer.Question.ask

    def told(*arguments) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.Question, "ask", told)
    with pytest.raises(SystemExit):
        chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW))
    monkeypatch.setattr(trainer.Question, "ask", ask)
    monkeypatch.setattr(engine.Optimizer, "step", None)  # no step is taken again
    output, _ = chunk(dataset, tmp_path, range(8), recipe=recipe(**SLOW))
    assert output.read_bytes() == undisturbed.read_bytes()
