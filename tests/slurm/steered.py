"""A study of six models of which four can be made to train for as long as a test wants: see slow_model.py."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from study import EXPERIMENT, Study

TABLE = f"results/confidences/{EXPERIMENT}/clean.parquet"
FIRST = 2
"""Models that are finished before training becomes slow."""


class Steered(Study):
    """The study in a folder that holds the network's file; `prepared` copies a folder with the dataset in it."""

    heads: list[subprocess.Popen[str]]

    def __init__(
        self, folder: Path, repository: Path, environment: dict[str, str] | None = None, prepared: Path | None = None
    ) -> None:
        super().__init__(folder, repository, environment)
        self.heads = []
        if prepared is not None:
            subprocess.run(["cp", "-a", str(prepared), str(folder)], check=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).with_name("slow_model.py"), folder)
        self.study["n_models"] = self.study["chunk_size"] = 6
        self.study["models"]["net"] = {"architecture": "custom", "function": "slow_model:steered"}
        self.study["experiments"]["size"]["recipe"] |= {"batch_size": 64}

    def slow(self) -> None:
        """From here on all models but the first two take minutes: 300 steps of half a second."""
        self._steer("slow", {"after": FIRST, "seconds": 0.5})

    def hungry(self, megabytes: int) -> None:
        """From here on all models but the first two take so much memory in training."""
        self._steer("hungry", {"after": FIRST, "megabytes": megabytes})

    def fast(self) -> None:
        """Take the brake off; trainings notice within a step."""
        (self.folder / "slow.json").unlink()

    def _steer(self, name: str, wanted: dict[str, float]) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(wanted))

    def head(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake on the cluster, for the confidence table."""
        started = self.start(self.on_cluster(*arguments, "--", TABLE))
        self.heads.append(started)
        return started

    def succeeds(self, head: subprocess.Popen[str]) -> None:
        """Wait until a head has made the table."""
        assert head.wait(240) == 0, self.log.read_text()[-6000:]

    def interrupted_in_training(self) -> dict[int, int]:
        """Wait until the first models are finished and the next is in slow training. The finished: number → time."""
        self.wait("two finished models", lambda: len(self.notes()) >= FIRST and self.trainings())
        time.sleep(2)  # some steps of the next
        assert self.trainings(), self.log.read_text()[-3000:]
        assert len(self.notes()) == FIRST
        return self.times()

    def times(self) -> dict[int, int]:
        """When models were finished: number → nanoseconds of their note's last change."""
        return {number: path.stat().st_mtime_ns for number, path in self.notes().items()}

    def wait(self, what: str, ready: Callable[[], object], seconds: float = 120) -> None:
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, f"{what} did not come in {seconds:.0f} s:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.1)

    def training_log(self, chunk: str = "0-5") -> str:
        """What the last attempt of a training job wrote."""
        return (self.folder / f"results/logs/train/{EXPERIMENT}/{chunk}.log").read_text()

    def table(self) -> bytes:
        """The confidence table."""
        return (self.folder / TABLE).read_bytes()

    def end(self) -> None:
        """Kill what a failed test may have left behind."""
        for head in self.heads:
            if head.poll() is None:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()
