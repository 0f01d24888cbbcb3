"""What clusters do to jobs: the study still ends, nothing finished is lost, and the table is the undisturbed one."""

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, unavailable
from steered import FIRST, TABLE, Steered
from study import EXPERIMENT

pytestmark = pytest.mark.faults

ALL = 6


@pytest.fixture(scope="module")
def prepared(repository, tmp_path_factory) -> Steered:
    """A study whose dataset is prepared, and nothing else."""
    made = Steered(tmp_path_factory.mktemp("prepared") / "study", repository)
    made.run(made.command("--profile", "local", "--", "datasets"))
    return made


@pytest.fixture(scope="module")
def undisturbed(prepared, repository, tmp_path_factory) -> bytes:
    """The confidence table as an undisturbed run on this machine makes it."""
    calm = Steered(tmp_path_factory.mktemp("calm") / "study", repository, prepared=prepared.folder)
    calm.run(calm.command("--profile", "local", "--", TABLE))
    assert calm.served() == {"0-5": (0, ALL)}
    return calm.table()


@pytest.fixture
def study(cluster, prepared, repository, tmp_path) -> Iterator[Steered]:
    """A copy of the prepared study, to be run on the cluster."""
    copied = Steered(tmp_path / "study", repository, cluster.environment, prepared.folder)
    yield copied
    copied.end()
    cancel(cluster)


def cancel(cluster: Cluster) -> None:
    """Take all jobs off the cluster, and wait until they are gone."""
    cluster.ask("scancel", "--user", "root")
    end = time.monotonic() + 60
    while cluster.jobs("RUNNING", "PENDING", "COMPLETING") and time.monotonic() < end:
        time.sleep(0.2)


def told(cluster: Cluster, job: str, fields: str) -> list[str]:
    """What squeue says about a job, field by field (%l time limit, %m memory, %T state, %N nodes)."""
    return cluster.ask("squeue", "--noheader", "--states", "all", "--jobs", job, "--format", fields).split("|")


def trainings(cluster: Cluster, before: set[str]) -> list[str]:
    """Numbers of the training jobs that were submitted since."""
    return sorted((job for job, comment in cluster.jobs().items() if "train" in comment and job not in before), key=int)


def nothing_was_lost(study: Steered, finished: dict[int, int], undisturbed: bytes, chunk: str = "0-5") -> None:
    """What was finished before the fault is untouched, all else was trained, and the table is the same bytes."""
    times = study.times()
    assert {number: times[number] for number in finished} == finished
    assert len(times) == ALL
    first, last = map(int, chunk.split("-"))
    served = len([number for number in finished if first <= number <= last])
    assert study.served()[chunk] == (served, last - first + 1 - served)
    assert study.table() == undisturbed
    assert not list(study.folder.glob("results/**/*.tmp"))
    assert not list(study.folder.glob("results/store/**/checkpoint.pt"))


def test_preempted(cluster, study, undisturbed) -> None:
    """An urgent job takes all nodes: the training saves within its step, and the requeued job goes on from there."""
    before = set(cluster.jobs())
    study.slow()
    head = study.head()
    finished = study.interrupted_in_training()
    whole = ["-p", "urgent", "-N", "2", "--exclusive", "--output", "/dev/null"]
    urgent = cluster.ask("sbatch", "--parsable", *whole, "--wrap", "sleep 3")
    study.wait("the urgent job", lambda: told(cluster, urgent, "%T") != ["PENDING"])
    study.wait("the end of the training", lambda: not study.trainings())
    assert "told to end: saved after step" in study.training_log()
    assert set(study.notes()) == set(finished)
    study.fast()
    study.succeeds(head)
    assert len(trainings(cluster, before)) == 1  # the same job, requeued
    resumed = re.search(r"target models 2 to 2 go on after epoch ([\d.]+)", study.training_log())
    assert resumed
    assert float(resumed[1]) > 0
    nothing_was_lost(study, finished, undisturbed)


def test_time_limit(cluster, study, undisturbed) -> None:
    """The first attempt has one minute, which is too short; the second asks for two and goes on from what was saved."""
    before = set(cluster.jobs())
    study.slow()
    head = study.head("--set-resources", "train:runtime=attempt", "train:mem_mb=3000", "train:gpu=1")
    study.interrupted_in_training()
    study.wait("the time limit", lambda: not study.trainings())
    finished = study.times()
    assert "told to end: saved after step" in study.training_log()
    study.fast()
    study.succeeds(head)
    first, second = trainings(cluster, before)
    assert told(cluster, first, "%T|%l") == ["TIMEOUT", "1:00"]
    assert told(cluster, second, "%T|%l") == ["COMPLETED", "2:00"]
    assert f"target models {len(finished)} to {len(finished)} go on after epoch" in study.training_log()
    nothing_was_lost(study, finished, undisturbed)


def test_out_of_memory(cluster, study, undisturbed) -> None:
    """The third model takes more memory than was asked for; the second attempt asks for twice as much."""
    before = set(cluster.jobs())
    study.slow()
    study.hungry(1200)
    memory = ["train:runtime=10", "train:mem_mb=1500*attempt", "train:gpu=1"]
    head = study.head("--set-resources", *memory)
    study.wait("the first job", lambda: trainings(cluster, before))
    first = trainings(cluster, before)[0]
    study.wait("two finished models", lambda: len(study.notes()) >= FIRST)
    finished = study.times()
    study.wait("the first job's end", lambda: told(cluster, first, "%T") in (["FAILED"], ["OUT_OF_MEMORY"]))
    study.fast()
    study.succeeds(head)
    _, second = trainings(cluster, before)
    assert [told(cluster, job, "%m") for job in (first, second)] == [["1500M"], ["3000M"]]
    nothing_was_lost(study, finished, undisturbed)


def test_job_killed(cluster, study, undisturbed) -> None:
    """SIGKILL to all processes of a job, Snakemake's own included: submitted again."""
    before = set(cluster.jobs())
    study.slow()
    study.study["running"]["checkpoint_minutes"] = 0.01
    head = study.head()
    finished = study.interrupted_in_training()
    (first,) = trainings(cluster, before)
    cluster.ask("scancel", "--signal=KILL", "--full", first)
    study.wait("the job's end", lambda: told(cluster, first, "%T") not in (["RUNNING"], ["COMPLETING"]))
    study.fast()
    study.succeeds(head)
    assert len(trainings(cluster, before)) == 2
    assert "target models 2 to 2 go on after epoch" in study.training_log()  # from the checkpoint of every 0.6 s
    nothing_was_lost(study, finished, undisturbed)


def test_cancelled_by_hand(cluster, study, undisturbed) -> None:
    """One of two jobs is cancelled by its owner: noticed, and submitted again, the other left alone."""
    before = set(cluster.jobs())
    study.study["chunk_size"] = 3
    study.slow()
    head = study.head()
    study.wait("two trainings", lambda: set(study.trainings().values()) == {"0-2", "3-5"})
    study.wait("two finished models", lambda: len(study.notes()) >= FIRST)
    time.sleep(2)
    finished = study.times()
    jobs = {comment.rpartition("_")[2]: job for job, comment in cluster.jobs("RUNNING").items() if job not in before}
    chosen = next(job for chunk, job in jobs.items() if "0-2" in chunk)
    cluster.ask("scancel", chosen)
    study.wait("the job's end", lambda: told(cluster, chosen, "%T") == ["CANCELLED"])
    study.fast()
    study.succeeds(head)
    assert len(trainings(cluster, before)) == 3
    nothing_was_lost(study, finished, undisturbed, "0-2")
    other = study.served()["3-5"]
    assert other == (0, 3)  # in its one and only attempt


def test_head_killed(cluster, study, undisturbed) -> None:
    """The head dies; its job runs on. Another head wants the lock removed first, and then both jobs may write."""
    before = set(cluster.jobs())
    study.slow()
    head = study.head()
    finished = study.interrupted_in_training()
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    (orphan,) = trainings(cluster, before)
    refused = study.head()
    assert refused.wait(60) == 1
    assert "--unlock" in study.log.read_text()
    study.run(study.on_cluster("--unlock"))
    again = study.head()
    study.wait("a second training of the chunk", lambda: len(study.trainings()) == 2)
    assert told(cluster, orphan, "%T") == ["RUNNING"]
    study.fast()
    study.succeeds(again)
    study.wait("the orphan's end", lambda: told(cluster, orphan, "%T") != ["RUNNING"])
    assert len(trainings(cluster, before)) == 2
    times = study.times()
    assert {number: times[number] for number in finished} == finished
    assert study.table() == undisturbed
    assert (study.folder / f"results/targets/{EXPERIMENT}/0-5.parquet").exists()
    assert not list(study.folder.glob("results/**/*.tmp"))


def test_orphans_cancelled_first(cluster, study, undisturbed) -> None:
    """The orderly way after a head has died: cancel its jobs by the run's name, unlock, start again."""
    study.slow()
    head = study.head()
    finished = study.interrupted_in_training()
    os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    run = re.search(r"SLURM run ID: (\S+)", study.log.read_text())
    assert run
    cluster.ask("scancel", "--name", run[1])
    study.wait("the orphan's end", lambda: not study.trainings())
    study.fast()
    study.run(study.on_cluster("--unlock"))
    study.succeeds(study.head())
    nothing_was_lost(study, finished, undisturbed)


def test_output_that_appears_late(cluster, study, undisturbed, tmp_path) -> None:
    """The chunk table is there for the head only long after its job's end: it waits as long as the profile says."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(LATE.format(table=f"results/targets/{EXPERIMENT}/0-5.parquet"))
    study.environment["PYTHONPATH"] = os.pathsep.join([str(hook), os.environ.get("PYTHONPATH", "")])
    polling = ("--slurm-init-seconds-before-status-checks", "8")  # and the profile's latency-wait
    head = study.start(study.command("--profile", "slurm", *polling, "--", TABLE))
    study.heads.append(head)
    study.succeeds(head)
    assert (study.folder / "late").read_text() == "moved away\nmoved back\n"
    assert "Waiting at most 60 seconds for missing files" in study.log.read_text()
    nothing_was_lost(study, {}, undisturbed)


LATE = """\
import atexit, os, subprocess, sys

table = "{table}"

def late():
    if os.path.exists(table):
        os.rename(table, table + ".late")
        open("late", "w").write("moved away\\n")
        back = f"sleep 50; mv {{table}}.late {{table}}; echo moved back >> late"
        subprocess.Popen(["setsid", "sh", "-c", back], stdin=-3, stdout=-3, stderr=-3)

if "slurm-jobstep" in sys.orig_argv and "SLURM_JOB_ID" in os.environ:
    atexit.register(late)
"""
"""In the outer of a job's two Snakemakes, at its very end: the table vanishes, and comes back from another process,
after longer than the head takes to see that the job has ended, and sooner than the profile's latency-wait."""


def test_node_lost(prepared, undisturbed, repository, tmp_path) -> None:
    """A node dies with all that ran on it: SLURM requeues its job, which goes on elsewhere."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    with Cluster(tmp_path / "slurm") as cluster:
        study = Steered(tmp_path / "study", repository, cluster.environment, prepared.folder)
        study.slow()
        study.study["running"]["checkpoint_minutes"] = 0.01
        head = study.head()
        try:
            finished = study.interrupted_in_training()
            (job,) = trainings(cluster, set())
            (node,) = told(cluster, job, "%N")
            kill_node(cluster, node, job, study)
            cluster.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
            study.fast()
            study.succeeds(head)
            assert told(cluster, job, "%N") != [node]
            assert trainings(cluster, set()) == [job]
            nothing_was_lost(study, finished, undisturbed)
        finally:
            study.end()
            cancel(cluster)


def kill_node(cluster: Cluster, node: str, job: str, study: Steered) -> None:
    """SIGKILL to a node's daemon and what watches its job, which could else report the job's end, and then to all that
    works on the study, its head left alone."""
    heads = {head.pid for head in study.heads}
    for is_watching in (True, False):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                daemon = words[0].endswith("slurmd") and node in words and str(cluster.folder) in environment(process)
                step = words[0].startswith(f"slurmstepd: [{job}.") and str(cluster.folder) in environment(process)
                works = (process / "cwd").resolve() == study.folder.resolve() and int(process.name) not in heads
                if daemon or step or (not is_watching and works and "SLURM_JOB_ID=" in environment(process)):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:  # it has ended
                continue


def environment(process: Path) -> str:
    """The environment that a process was started with."""
    return (process / "environ").read_bytes().decode(errors="replace")
