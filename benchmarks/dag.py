"""CPU time of planning a large study: a dry run of 25 experiments with 200 target models each.

Run `python benchmarks/dag.py` from anywhere; the bound is 5 s of CPU.
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
N_EXPERIMENTS, REPEATS, BOUND = 25, 3, 5.0


def study() -> dict:
    """One dataset, 25 sizes of model, 200 target models each in chunks of 25."""
    models = {f"w{width}": {"architecture": "tabular_resnet", "width": width, "depth": 1} for width in range(1, 26)}
    return {
        "n_models": 200,
        "datasets": {"bc": {"source": "breast_cancer"}},
        "models": models,
        "experiments": {
            "e": {
                "datasets": "bc",
                "models": list(models),
                "recipe": {"epochs": 1, "batch_size": 32, "learning_rate": 0.1},
            }
        },
    }


def main() -> None:
    """Print CPU seconds of each dry run against the bound."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "study.yaml")
        config.write_text(yaml.safe_dump(study()))
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "--configfile", str(config)]
        command += ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", folder]
        print(f"Python {platform.python_version()}, snakemake {version('snakemake')}, {os.cpu_count()} cores")
        for repeat in range(REPEATS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"dry run {repeat + 1} of {N_EXPERIMENTS} × 200 models: {seconds:.2f} s CPU, bound {BOUND} s, "
                f"ratio {seconds / BOUND:.2f}"
            )


if __name__ == "__main__":
    main()
