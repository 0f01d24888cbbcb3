"""A small audit of 20 target models, and the means to run it on a cluster or on this machine."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

STUDY: dict[str, Any] = {
    "seed": 3,
    "n_models": 20,
    "chunk_size": 10,
    "datasets": {"bc": {"source": "breast_cancer"}},
    "models": {"net": {"architecture": "tabular_resnet", "width": 16, "depth": 1}},
    "experiments": {
        "size": {
            "datasets": "bc",
            "models": "net",
            "recipe": {"epochs": 100, "batch_size": 32, "learning_rate": 0.01},
        }
    },
    "audit": {"flips": 99},
    "subgroups": {"permutations": 99},
    # One model after the other, so that a job in training has finished some of its models and not others.
    "running": {"stack_size": 1},
}
EXPERIMENT = "size.bc.net"

POLLING = ("--slurm-init-seconds-before-status-checks", "8", "--latency-wait", "10")
"""Over the profile's, for tests: the first question about a job after 8 s instead of 40 (with fewer, Snakemake asks
before a job can have ended, and then pauses longer)."""


class Study:
    """A study in a folder of its own, run by the repository's workflow as a user would: from the checkout."""

    def __init__(self, folder: Path, repository: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.repository, self.study = folder, repository, copy.deepcopy(STUDY)
        self.environment = {**(environment or os.environ), "PYTHONDONTWRITEBYTECODE": "1"}
        # Left to find their own way, the figures' fonts would be looked for once a job.
        self.environment.setdefault("MPLCONFIGDIR", str(folder.parent / "matplotlib"))

    def command(self, *arguments: str) -> list[str]:
        """Write the configuration and return the Snakemake command; to be run in the repository."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump(self.study, sort_keys=False))
        place = ["--directory", str(self.folder), "--configfile", str(path)]
        return [sys.executable, "-m", "snakemake", *place, *arguments]

    def on_cluster(self, *arguments: str) -> list[str]:
        """The command for the cluster; further arguments go over the profile's."""
        return self.command("--profile", "slurm", *POLLING, *arguments)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a command in a session of its own; output (both streams) in `head.log`."""
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                cwd=self.repository,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(self, command: list[str], seconds: float = 600, check: bool = True) -> str:
        """Run a command to its end; its output."""
        before = self.log.stat().st_size if self.log.exists() else 0
        status = self.start(command).wait(seconds)
        output = self.log.read_text()[before:]
        assert not check or status == 0, output[-6000:]
        return output

    @property
    def log(self) -> Path:
        """What Snakemake said, all runs one after the other."""
        return self.folder / "head.log"

    def notes(self) -> dict[int, Path]:
        """Finished target models: number → the note in the store that says so."""
        return {int(path.parent.name): path for path in self.folder.glob("results/store/*/*/performance.json")}

    def trainings(self) -> dict[int, str]:
        """Training processes of this study that run now: process id → chunk."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().decode().split("\0")
                if "--models" in words and (process / "cwd").resolve() == self.folder.resolve():
                    found[int(process.name)] = words[words.index("--models") + 1]
            except OSError:  # it has ended
                continue
        return found

    def served(self) -> dict[str, tuple[int, int]]:
        """From the training logs: chunk → (served from the store, trained)."""
        found = {}
        for log in self.folder.glob(f"results/logs/train/{EXPERIMENT}/*.log"):
            match = re.findall(r"(\d+) served from the store, (?:\d+ asked again, )?(\d+) trained", log.read_text())
            if match:
                found[log.stem] = (int(match[-1][0]), int(match[-1][1]))
        return found

    def summary(self) -> dict[str, Any]:
        """The audit's summary under the clean query."""
        return json.loads((self.folder / f"results/audit/{EXPERIMENT}/clean/summary.json").read_bytes())

    def tables(self) -> dict[str, Path]:
        """All tables that must not depend on where they were made: place under results → file."""
        results = self.folder / "results"
        places = ("datasets", "confidences", "performance", "audit", "compare")
        return {
            str(path.relative_to(results)): path for place in places for path in results.glob(f"{place}/**/*.parquet")
        }
