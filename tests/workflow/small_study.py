"""A small study and the means to run the repository's workflow on it, in a folder of its own."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

RECIPE = {"epochs": 3, "batch_size": 32, "learning_rate": 0.01}
STUDY: dict[str, Any] = {
    "seed": 3,
    "n_models": 8,
    "chunk_size": 4,
    "datasets": {
        "bc": {"source": "breast_cancer"},
        "own": {
            "source": "table",
            "path": "own.csv",
            "patient": "pid",
            "label": "outcome",
            "numeric": ["age", "lactate"],
            "groups": ["unit"],
        },
    },
    "models": {"lr": {"architecture": "logistic"}, "net": {"architecture": "tabular_resnet", "width": 4, "depth": 1}},
    "experiments": {
        "size": {"datasets": "bc", "models": ["lr", "net"], "recipe": RECIPE},
        "mine": {"datasets": "own", "models": "lr", "recipe": RECIPE},
    },
    "audit": {"flips": 99},
    "subgroups": {"permutations": 99},
}


class Workflow:
    """A working folder with its configuration; runs and dry-runs the repository's workflow in it."""

    def __init__(self, folder: Path, repository: Path, study: dict[str, Any]) -> None:
        self.folder, self.repository, self.study = folder, repository, copy.deepcopy(study)
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def command(self, *arguments: str) -> list[str]:
        """Write the configuration and return the Snakemake command."""
        path = self.folder / "study.yaml"
        path.write_text(yaml.safe_dump(self.study, sort_keys=False))
        fixed = ["--snakefile", str(self.repository / "Snakefile"), "--directory", str(self.folder)]
        fixed += ["--configfile", str(path), "--cores", "2"]
        return [sys.executable, "-m", "snakemake", *fixed, *arguments]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it; output (both streams) in stdout."""
        done = subprocess.run(
            self.command(*arguments),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done

    def planned(self, *arguments: str) -> dict[str, list[str]]:
        """What a dry run would do: rule → the wildcards of its jobs, sorted, without `rule all`."""
        found: dict[str, list[str]] = {}
        for block in re.split(r"\n(?=(?:local)?rule )", self.run("--dry-run", *arguments).stdout)[1:]:
            rule = re.match(r"(?:local)?rule (\w+):", block)
            wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            assert rule
            text = ", ".join(part.split("=")[1] for part in wildcards[1].split(", ")) if wildcards else ""
            found.setdefault(rule[1], []).append(text)
        found.pop("all", None)
        return {rule: sorted(jobs) for rule, jobs in found.items()}

    def table(self, path: str) -> bytes:
        """The bytes of a result."""
        return (self.folder / "results" / path).read_bytes()

    def served(self) -> dict[str, tuple[int, int]]:
        """From the training logs: job → (served from the store, trained)."""
        found = {}
        for log in (self.folder / "results/logs/train").rglob("*.log"):
            match = re.findall(r"(\d+) served from the store, (\d+) trained", log.read_text())
            if match:
                found[f"{log.parent.name}/{log.stem}"] = (int(match[-1][0]), int(match[-1][1]))
        return found

    def summary(self, experiment: str) -> dict[str, Any]:
        """The audit's summary of an experiment under the clean query."""
        return json.loads(self.table(f"audit/{experiment}/clean/summary.json"))
