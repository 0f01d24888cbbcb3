"""An audit of 20 target models on a real SLURM, with one training killed: to the report, with a local run's tables."""

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import GPUS, Cluster
from study import EXPERIMENT, Study

CHUNKS = ("0-9", "10-19")


@dataclass
class Killed:
    """The training process that was killed: its chunk, and the models finished by then (number → time of the note)."""

    chunk: str
    finished: dict[int, int]


@dataclass
class Run:
    """A run on the cluster that came to its end in spite of the kill.

    `gpus` says which (node, CUDA_VISIBLE_DEVICES) the training processes saw, chunk by chunk, `jobs` what SLURM was
    asked for: comment → the jobs of that name, in order of submission, as `scontrol show job` tells them.
    """

    study: Study
    killed: Killed
    gpus: dict[str, tuple[str, str]]
    jobs: dict[str, list[dict[str, str]]]


@pytest.fixture(scope="module")
def run(cluster: Cluster, repository: Path, tmp_path_factory) -> Run:
    """The study, run to the report through the profile `slurm`."""
    study = Study(tmp_path_factory.mktemp("cluster") / "study", repository, cluster.environment)
    head = study.start(study.on_cluster())
    try:
        gpus: dict[str, tuple[str, str]] = {}
        killed = _kill_one(study, gpus)
        assert head.wait(600) == 0, study.log.read_text()[-6000:]
    finally:
        if head.poll() is None:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
    return Run(study, killed, gpus, _jobs(cluster))


def _kill_one(study: Study, gpus: dict[str, tuple[str, str]]) -> Killed:
    """Kill the first training process of which some models are finished and others not; note all GPUs before."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        trainings = study.trainings()
        gpus |= {chunk: _gpu(process) for process, chunk in trainings.items() if chunk not in gpus}
        for process, chunk in trainings.items():
            if len(gpus) == len(CHUNKS) and 0 < len(_finished(study, chunk)) < _size(chunk):
                os.kill(process, signal.SIGKILL)
                return Killed(chunk, _finished(study, chunk))
        time.sleep(0.02)
    raise AssertionError(f"no training could be killed in its midst:\n{study.log.read_text()[-6000:]}")


def _gpu(process: int) -> tuple[str, str]:
    """The node of a process and its CUDA_VISIBLE_DEVICES."""
    words = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    return environment["SLURMD_NODENAME"], environment["CUDA_VISIBLE_DEVICES"]


def _size(chunk: str) -> int:
    first, last = map(int, chunk.split("-"))
    return last - first + 1


def _finished(study: Study, chunk: str) -> dict[int, int]:
    """Finished models of a chunk: number → when."""
    first, last = map(int, chunk.split("-"))
    return {number: path.stat().st_mtime_ns for number, path in study.notes().items() if first <= number <= last}


def _jobs(cluster: Cluster) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for line in cluster.ask("scontrol", "--oneliner", "show", "job").splitlines():
        told = dict(re.findall(r"(\S+?)=(\S*)", line))
        found.setdefault(told["Comment"], []).append(told)
    return found


@pytest.fixture(scope="module")
def local(run: Run, repository: Path, tmp_path_factory) -> Study:
    """The tables of the cluster's run, made on this machine without a cluster, in one training job."""
    study = Study(tmp_path_factory.mktemp("local") / "study", repository)
    study.study["chunk_size"] = study.study["n_models"]
    tables = [f"results/{place}" for place in run.study.tables()]
    study.run(study.command("--profile", "local", "--cores", "2", "--", *tables))
    return study


def test_it_comes_to_the_report(run: Run) -> None:
    assert (run.study.folder / "results/report.html").exists()
    assert "The report is at" in run.study.log.read_text()
    assert run.study.summary()["models"] == 20


def test_the_kill_cost_one_model(run: Run) -> None:
    """Nothing finished was lost or trained again; the rest of the chunk was trained by a second job."""
    known = len(run.killed.finished)
    assert 0 < known < 10
    notes = _finished(run.study, run.killed.chunk)
    assert {number: notes[number] for number in run.killed.finished} == run.killed.finished
    (other,) = set(CHUNKS) - {run.killed.chunk}
    assert run.study.served() == {run.killed.chunk: (known, 10 - known), other: (0, 10)}
    assert run.study.log.read_text().count("Trying to restart job") == 1
    first, second = run.jobs[f"rule_train_wildcards_{EXPERIMENT}_{run.killed.chunk}"]
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    assert all(job["JobState"] == "COMPLETED" for jobs in run.jobs.values() for job in jobs if job is not first)


def test_what_slurm_was_asked_for(run: Run) -> None:
    """A GPU a training job; memory and time that grow with the attempt; no more CPUs than small nodes have."""
    first, second = run.jobs[f"rule_train_wildcards_{EXPERIMENT}_{run.killed.chunk}"]
    wanted = [(job["MinMemoryNode"], job["TimeLimit"], job["NumCPUs"]) for job in (first, second)]
    assert wanted == [("8500M", "04:00:00", "1"), ("17000M", "08:00:00", "1")]
    for comment, jobs in run.jobs.items():
        of_training = comment.startswith("rule_train_")
        assert all(job.get("TresPerJob") == ("gres:gpu:1" if of_training else None) for job in jobs)
        assert all(int(job["NumCPUs"]) <= 4 for job in jobs)
        assert all(job["Requeue"] == "1" for job in jobs)
    stages = {comment.removeprefix("rule_").split("_wildcards_")[0] for comment in run.jobs}
    assert stages == {"prepare", "groups", "duplicates", "baseline", "train", "audit"}  # small ones run at the head


def test_every_training_job_has_a_gpu_of_its_own(run: Run) -> None:
    assert set(run.gpus) == set(CHUNKS)
    assert {device for _, device in run.gpus.values()} <= {str(number) for number in range(GPUS)}
    assert len(set(run.gpus.values())) == len(CHUNKS)


def test_tables_equal_a_local_runs(run: Run, local: Study) -> None:
    """Bit for bit, column by column."""
    here, there = local.tables(), run.study.tables()
    assert here.keys() == there.keys()
    assert {place.split("/")[0] for place in there} == {"datasets", "confidences", "performance", "audit", "compare"}
    for place, path in there.items():
        ours, theirs = pq.read_table(here[place]), pq.read_table(path)
        assert ours.schema.equals(theirs.schema), place
        assert ours.num_rows == theirs.num_rows, place
        for name in ours.column_names:
            same = _bits(ours[name]) == _bits(theirs[name])
            assert same, f"{place}: {name}"
        assert here[place].read_bytes() == path.read_bytes(), f"{place}: what is written beside the columns"


def _bits(column: pa.ChunkedArray) -> tuple[list[bool], bytes | list[object]]:
    """Which values are missing, and the values: numbers as they lie in memory, so that NaN equals NaN and -0 not 0."""
    values = column.to_numpy()
    return column.is_null().to_pylist(), values.tolist() if values.dtype == object else values.tobytes()
