"""Thousands of jobs: what Snakemake costs around 100 experiments of 200 target models that are hardly trained at all.

Run `python benchmarks/scale.py` from anywhere (about an hour on two cores; `--experiments 10` takes minutes). It prints
one table in Markdown, for chunks of 25 models beside one job a model, and the share of the paper's study that
orchestration would take, which must stay below 2 %.

- Dry run: of a study of which nothing is there yet.
- Files only: a real run of that study on this machine in which a shell function stands in for the command `tailrisk`
  and only makes the files, empty: what a job costs is Snakemake and its shell. It leaves all records of Snakemake.
- Nothing to do: of the study that is finished by this.
- Trained: two experiments with a network of one parameter on a tiny simulated dataset, eight training jobs each, run
  to the report with the real command.
- Start: a job of a cluster starts Snakemake twice. One start is a dry run of one training job of the full study.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from machine import cores_and_load

REPOSITORY = Path(__file__).parents[1]
SNAKEFILE = REPOSITORY / "Snakefile"
TRAINED_EXPERIMENTS, TRAINED_JOBS = 2, 8
PAPER_HOURS, PAPER_MODELS = 800, 5000
"""What the paper states: hours on an A100 for all of its models. config/paper.yaml trains 3,000 of these."""
BOUND = 0.02
ON_CLUSTER = {"prepare", "groups", "duplicates", "baseline", "train", "audit", "stability", "given"}
FILES_ONLY = """include: {snakefile!r}
shell.prefix("set -euo pipefail; tailrisk() {{{{ for file in $4; do : > $file; done; }}}}; ")
"""
"""A workflow whose `tailrisk --log LOG --writes 'FILES' STAGE ...` makes empty files."""


@dataclass(frozen=True)
class Cost:
    """What one Snakemake process cost. `head` is its own CPU time, `cpu` that of its jobs as well, in seconds."""

    wall: float
    head: float
    cpu: float
    megabytes: float
    output: str


def study(experiments: int, models: int, chunk_size: int) -> dict[str, Any]:
    """A simulated dataset with `experiments` networks of one parameter, `models` target models each."""
    architecture = {
        "architecture": "custom",
        "function": "empty_model:one_parameter",
        "path": str(Path(__file__).parent),
    }
    networks = {f"n{number}": {**architecture, "arguments": {"number": number}} for number in range(experiments)}
    recipe = {"epochs": 1, "batch_size": 64, "learning_rate": 0.1}
    return {
        "n_models": models,
        "chunk_size": chunk_size,
        "datasets": {"tiny": {"source": "simulated", "patients": 60, "features": 2, "max_records": 1}},
        "models": networks,
        "experiments": {"empty": {"datasets": "tiny", "models": list(networks), "recipe": recipe}},
        "audit": {"flips": 99},
        "subgroups": {"permutations": 99},
    }


def snakemake(folder: Path, config: dict[str, Any], *arguments: str, snakefile: Path = SNAKEFILE) -> Cost:
    """Run Snakemake on a configuration in a folder, and watch what it costs."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
    command += ["--directory", str(folder), "--configfile", str(file), "--scheduler", "greedy", *arguments]
    settings = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    head, peak, start = 0.0, 0.0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=settings, stdout=output, stderr=subprocess.STDOUT)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        while not ended:
            head, peak = own(process.pid) or (head, peak)
            time.sleep(0.05)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"Snakemake failed:\n{text[-3000:]}")
    return Cost(wall, head, usage.ru_utime + usage.ru_stime, peak, text)


def own(process: int) -> tuple[float, float] | None:
    """CPU seconds and peak megabytes of a process without its children; None where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return (seconds, int(peak[1]) / 1024) if peak else None


def jobs(dry_run: str) -> dict[str, int]:
    """Jobs by rule, from the table that a dry run prints; without `rule all`."""
    table = dry_run.rpartition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE) if rule != "all"}


def measure(experiments: int, models: int, chunk_size: int, repeats: int, trained: bool) -> dict[str, float]:
    """All figures of one column of the table."""
    planned = study(experiments, models, chunk_size)
    small = study(min(experiments, TRAINED_EXPERIMENTS), chunk_size * TRAINED_JOBS, chunk_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "all")
        dry = middle([snakemake(folder, planned, "-n", "--quiet", "rules") for _ in range(repeats)])
        counts = jobs(dry.output)
        chunk = f"results/targets/empty.tiny.n0/0-{min(chunk_size, models) - 1}.parquet"
        files_only = Path(name, "Snakefile")
        files_only.write_text(FILES_ONLY.format(snakefile=str(SNAKEFILE)))
        made = snakemake(folder, planned, "--cores", "64", "--quiet", "all", "--", "all", snakefile=files_only)
        nothing = middle([snakemake(folder, planned, "-n") for _ in range(repeats)])
        if "Nothing to be done" not in nothing.output:
            raise SystemExit(f"the finished study is not finished:\n{nothing.output[-3000:]}")
        one = ("-n", "--quiet", "all", "--force", "--allowed-rules", "train", "--", chunk)
        start = middle([snakemake(folder, planned, *one) for _ in range(repeats)])
        figures = {
            "jobs": sum(counts.values()),
            "of these training": counts["train"],
            "dry run, wall s": dry.wall,
            "dry run, CPU s": dry.cpu,
            "dry run, peak MB": dry.megabytes,
            "nothing to do, wall s": nothing.wall,
            "nothing to do, CPU s": nothing.cpu,
            "nothing to do, peak MB": nothing.megabytes,
            "files only, wall s": made.wall,
            "files only, wall ms a job": 1000 * made.wall / sum(counts.values()),
            "files only, CPU ms of Snakemake a job": 1000 * made.head / sum(counts.values()),
            "files only, peak MB of Snakemake": made.megabytes,
            "one start of Snakemake in a job, CPU s": start.cpu,
        }
        if trained:
            run = snakemake(Path(name, "part"), small, "--cores", "all", "--quiet", "all")
            n_jobs = sum(jobs(snakemake(Path(name, "fresh"), small, "-n", "--quiet", "rules").output).values())
            n_models = len(small["models"]) * small["n_models"]
            figures |= {
                "trained, models": n_models,
                "trained, jobs": n_jobs,
                "trained, wall s a model": run.wall / n_models,
                "trained, CPU s of Snakemake a job": run.head / n_jobs,
            }
    return figures


def middle(costs: list[Cost]) -> Cost:
    """The run of median CPU time."""
    return sorted(costs, key=lambda cost: cost.cpu)[(len(costs) - 1) // 2]


def paper(chunk_size: int, seconds_a_job: float, seconds_of_head: float) -> tuple[int, int, float]:
    """The paper's study: jobs, jobs of the cluster, and the share of its training that orchestration takes.

    `seconds_a_job` is paid in each job of the cluster, `seconds_of_head` for every job where Snakemake runs.
    """
    config = yaml.safe_load((REPOSITORY / "config/paper.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        dry = snakemake(Path(folder), {**config, "chunk_size": chunk_size}, "-n", "--quiet", "rules")
    counts = jobs(dry.output)
    n_jobs, remote = sum(counts.values()), sum(count for rule, count in counts.items() if rule in ON_CLUSTER)
    seconds = dry.cpu + n_jobs * seconds_of_head + remote * seconds_a_job
    models = counts["train"] * chunk_size
    return n_jobs, remote, seconds / (PAPER_HOURS * 3600 * models / PAPER_MODELS)


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--experiments", type=int, default=100)
    options.add_argument("--models", type=int, default=200, help="target models of an experiment")
    options.add_argument("--chunk-sizes", type=int, nargs="+", default=[25, 1])
    options.add_argument("--repeats", type=int, default=3, help="of dry runs, of which the median is taken")
    options.add_argument("--no-training", dest="trained", action="store_false", help="leave out the real run of a part")
    options.add_argument(
        "--job-seconds", type=float, help="CPU seconds that Snakemake takes in a job of a real cluster"
    )
    given = options.parse_args()
    print(f"{given.experiments} experiments × {given.models} models; snakemake {version('snakemake')}, ", end="")
    print(f"Python {platform.python_version()}; {cores_and_load()}\n")
    columns = {}
    for size in given.chunk_sizes:
        columns[size] = measure(given.experiments, given.models, size, given.repeats, given.trained)
        seconds = given.job_seconds or 2 * columns[size]["one start of Snakemake in a job, CPU s"]
        head = columns[size]["files only, CPU ms of Snakemake a job"] / 1000
        n_jobs, remote, share = paper(size, seconds, head)
        columns[size] |= {"paper's study, jobs": n_jobs, "paper's study, jobs of the cluster": remote}
        columns[size] |= {"paper's study, % of its training": 100 * share}
    print("| | " + " | ".join(f"chunks of {size}" if size > 1 else "one job a model" for size in columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for figure in columns[given.chunk_sizes[0]]:
        print(f"| {figure} | " + " | ".join(written(column[figure]) for column in columns.values()) + " |")
    share = columns[given.chunk_sizes[0]]["paper's study, % of its training"] / 100
    print(f"\nOrchestration of the paper's study: {share:.3%} of its training, bound {BOUND:.0%}: ", end="")
    print("met" if share < BOUND else "MISSED")


def written(value: float) -> str:
    """Whole numbers as such, others with three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
