"""Faults of one machine that take longer to show: two heads in one folder, and disks that fill up in mid-study."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_study import STUDY, Workflow

pytestmark = pytest.mark.faults

EXPERIMENT = "size.bc.lr"
SUMMARY = f"results/audit/{EXPERIMENT}/clean/summary.json"


@pytest.fixture(scope="module")
def audited(repository, tmp_path_factory) -> Workflow:
    """One experiment of the small study, run to its audit."""
    workflow = Workflow(tmp_path_factory.mktemp("audited"), repository, STUDY)
    workflow.run("--", SUMMARY)
    return workflow


@pytest.fixture
def study(audited, tmp_path) -> Workflow:
    """A copy of it that a test may change."""
    subprocess.run(["cp", "-a", f"{audited.folder}/.", str(tmp_path)], check=True)
    return Workflow(tmp_path, audited.repository, STUDY)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `folder`, in whose place a roomy folder with the same files stands afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this user cannot mount a file system here: {done.stderr.strip()}")
    aside = folder.with_name(f"{folder.name}-aside")
    try:
        yield
    finally:
        subprocess.run(["cp", "-a", str(folder), str(aside)], check=True)
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder: name → bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("room", ["4k", "64k"])
def test_disk_full_while_the_audit_writes(study, room: str) -> None:
    """One sentence says so; with room again the audit alone is made, as it was."""
    audit = study.folder / f"results/audit/{EXPERIMENT}/clean"
    before = files(audit)
    shutil.rmtree(audit.parent)
    with small_disk(audit.parent, room):
        done = study.run("--", SUMMARY, check=False)
        assert done.returncode == 1
        assert not [path for path in audit.parent.rglob("*") if path.is_file()]  # nor what was whole
    log = (study.folder / f"results/logs/audit/{EXPERIMENT}/clean.log").read_text()
    assert log.count("\n") == 1
    assert log.startswith(f"Error: cannot use results/audit/{EXPERIMENT}/clean/")
    assert "the disk is full; mend that and run again" in log
    assert "Traceback" not in done.stdout
    assert study.planned("--", SUMMARY) == {"audit": [f"{EXPERIMENT}, clean"]}
    study.run("--", SUMMARY)
    assert files(audit) == before


@pytest.mark.parametrize(("model", "keep_weights"), [("lr", False), ("net", True)])
def test_disk_full_while_the_store_takes_a_model(study, tmp_path_factory, model: str, keep_weights: bool) -> None:
    """Models that found room stay; the job says what is wrong, and with room again trains only the others.

    The wide network's weights are most of what is stored, so that the disk fills up while they are written.
    """
    study.study |= {"n_models": 20, "chunk_size": 20, "running": {"keep_weights": keep_weights, "stack_size": 1}}
    study.study["models"]["net"]["width"] = 64
    table, job = f"results/confidences/size.bc.{model}/clean.parquet", f"size.bc.{model}/0-19"
    expected = tmp_path_factory.mktemp("roomy") / "study"
    subprocess.run(["cp", "-a", str(study.folder), str(expected)], check=True)
    roomy = Workflow(expected, study.repository, study.study)
    roomy.run("--", table)
    store = study.folder / "results/store"
    shutil.rmtree(store)
    with small_disk(store, "160k"):
        done = study.run("--", table, check=False)
        assert done.returncode == 1
        assert not list(store.rglob("*.tmp"))
    log = (study.folder / f"results/logs/train/{job}.log").read_text()
    sentence = log.splitlines()[-1]
    assert sentence.startswith("Error: cannot use results/store/")
    assert "the disk is full; mend that and run again" in sentence
    assert ("weights.pt" in sentence) == keep_weights
    assert "Traceback" not in log
    notes = {path: path.stat().st_mtime_ns for path in store.rglob("performance.json")}
    assert 0 < len(notes) < 20
    study.run("--", table)
    assert {path: path.stat().st_mtime_ns for path in notes} == notes
    assert study.served()[job] == (len(notes), 20 - len(notes))
    assert (study.folder / table).read_bytes() == (expected / table).read_bytes()


def test_two_heads_at_once(repository, tmp_path) -> None:
    """The second stops with Snakemake's sentence about the lock, and the first does not notice."""
    (tmp_path / "calm").mkdir()
    (tmp_path / "study").mkdir()
    calm, first = (steered(tmp_path / name, repository) for name in ("calm", "study"))
    calm.run("--", STEERED_TABLE)
    slow = first.folder / "slow.json"
    slow.write_text(json.dumps({"after": 2, "seconds": 0.5}))
    with (first.folder / "head.log").open("w") as log:
        head = subprocess.Popen(first.command("--", STEERED_TABLE), env=first.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while len(list(first.folder.rglob("performance.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        notes = {path: path.stat().st_mtime_ns for path in first.folder.rglob("performance.json")}
        assert len(notes) == 2
        second = first.run("--", STEERED_TABLE, check=False)
        assert second.returncode == 1
        assert "Directory cannot be locked" in second.stdout
        assert "--unlock" in second.stdout
        assert "Traceback" not in second.stdout
        slow.unlink()
        assert head.wait(120) == 0, (first.folder / "head.log").read_text()[-3000:]
    finally:
        if head.poll() is None:
            head.send_signal(signal.SIGINT)
            head.wait()
    assert {path: path.stat().st_mtime_ns for path in notes} == notes
    assert first.served() == {"size.bc.net/0-3": (0, 4)}
    assert (first.folder / STEERED_TABLE).read_bytes() == (calm.folder / STEERED_TABLE).read_bytes()


STEERED_TABLE = "results/confidences/size.bc.net/clean.parquet"


def steered(folder: Path, repository: Path) -> Workflow:
    """A study of four models whose training a file slows down (see tests/slurm/slow_model.py)."""
    shutil.copy(repository / "tests/slurm/slow_model.py", folder)
    study = {key: STUDY[key] for key in ("seed", "audit", "subgroups")}
    return Workflow(
        folder,
        repository,
        study
        | {
            "n_models": 4,
            "chunk_size": 4,
            "datasets": {"bc": STUDY["datasets"]["bc"]},
            "models": {"net": {"architecture": "custom", "function": "slow_model:steered"}},
            "experiments": {
                "size": {
                    "datasets": "bc",
                    "models": "net",
                    "recipe": {"epochs": 100, "batch_size": 64, "learning_rate": 0.01},
                }
            },
        },
    )
