"""What goes wrong in daily use: each ends with one clear sentence, a non-zero exit, and nothing finished lost."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from tailrisk.config.base import canonical
from tailrisk.tables import metadata

CLI = [sys.executable, "-m", "tailrisk.cli"]
SOURCE = '{"source":"simulated","patients":400}'


def cli(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], text=True, capture_output=True, check=False, **options)


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    return lines[0]


@contextmanager
def mounted(folder: Path, options: str):
    """A small file system of its own at `folder`; skips where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this user cannot mount a file system here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(tmp_path) -> None:
    with mounted(tmp_path / "small", "size=64k") as small:
        done = cli("prepare", "--name", "x", "--source", SOURCE, "--output", str(small / "x"))
        assert "the disk is full" in one_sentence(done)
        assert not list((small / "x").glob("inputs.npy"))
        assert not list((small / "x").glob(".*.tmp"))


@pytest.mark.parametrize("stage", [["gather", "--query", "clean"], ["performance"]])
def test_full_disk_while_a_table_is_written(finished, tmp_path, stage: list[str]) -> None:
    chunks = [str(finished.folder / f"results/targets/size.bc.lr/{chunk}.parquet") for chunk in ("0-3", "4-7")]
    with mounted(tmp_path / "small", "size=8k") as small:
        (small / "filler").write_bytes(bytes(8192 if stage == ["performance"] else 1))  # its table is a small one
        limits = ["--n-models", "8", "--max-failed-pairs", "0"]
        done = cli(*stage, *limits, "--output", str(small / "table.parquet"), *chunks)
        assert "the disk is full" in one_sentence(done)
        assert [path.name for path in small.iterdir()] == ["filler"]


def test_unwritable_results(tmp_path) -> None:
    with mounted(tmp_path / "locked", "size=1m,ro") as locked:
        done = cli("prepare", "--name", "x", "--source", SOURCE, "--output", str(locked / "x"))
        assert "the file system is read-only" in one_sentence(done)
        assert "locked" in done.stderr


def test_corrupted_table_is_named_and_rebuilt(study) -> None:
    path = study.folder / "results/confidences/mine.own.lr/clean.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:3000])
    done = study.run("--forcerun", "audit", "--", "results/audit/mine.own.lr/clean/summary.json", check=False)
    assert done.returncode == 1
    log = (study.folder / "results/logs/audit/mine.own.lr/clean.log").read_text()
    assert log.count("\n") == 1
    assert "clean.parquet is not a readable Parquet file" in log
    assert "delete it and run again" in log
    path.unlink()  # as the sentence says
    study.run("results/audit/mine.own.lr/clean/summary.json")
    assert path.read_bytes() == content
    assert set(study.served().values()) == {(0, 4)}  # no training job ran again


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.update(n_models=7), "n_models: "),
        (lambda s: s.update(n_modles=8), "unknown key 'n_modles'; did you mean 'n_models'?"),
        (lambda s: s["datasets"]["own"].update(pateint="x"), "did you mean 'patient'?"),
        (lambda s: s["experiments"]["mine"].update(models="lrr"), "no model 'lrr'; did you mean 'lr'?"),
    ],
)
def test_faults_of_the_configuration_stop_before_any_job(study, change, sentence: str) -> None:
    change(study.study)
    done = study.run(check=False)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s["datasets"]["own"].update(path="absent.csv"), "cannot read the table absent.csv"),
        (lambda s: s["datasets"]["own"].update(patient="pidd"), "has no column 'pidd'; did you mean 'pid'?"),
        (lambda s: s["datasets"]["own"].update(label="unit", groups=["outcme"]), "did you mean 'outcome'?"),
    ],
)
def test_faults_of_a_source_stop_that_dataset_alone(study, change, sentence: str) -> None:
    change(study.study)
    done = study.run("--keep-going", "--show-failed-logs", check=False)
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    assert "completed successfully" not in done.stdout  # the failure passes through the pipe to the log
    assert (study.folder / "results/confidences/size.bc.lr/clean.parquet").exists()


def test_too_few_members_of_a_class_names_class_and_pair(study) -> None:
    # Two of the audited patients have the class: among 30 pairs, some half has neither of them.
    split = ["audit"] * 100 + ["validation"] * 20 + ["test"] * 20
    rows = [
        f"q{number},{int(number in {0, 50} or (number >= 100 and number % 2))},{number},{number % 7},{s}"
        for number, s in enumerate(split)
    ]
    (study.folder / "own.csv").write_text("\n".join(["pid,outcome,age,lactate,part", *rows]) + "\n")
    study.study["datasets"]["own"] |= {"split": "part", "groups": []}
    study.study["n_models"], study.study["chunk_size"] = 60, 60
    done = study.run(
        "--show-failed-logs", "--forcerun", "prepare", "--", "results/performance/mine.own.lr.parquet", check=False
    )
    assert done.returncode == 1
    assert "has no record of class '1'" in done.stdout
    assert re.search(r"pair \d+: the training half of target model \d+", done.stdout)
    assert "Traceback" not in done.stdout


def test_failed_pairs_are_dropped_and_limited(study) -> None:
    study.study["experiments"]["mine"]["recipe"] = {
        **study.study["experiments"]["mine"]["recipe"],
        "optimizer": "sgd",
        "learning_rate": 1e38,
    }
    done = study.run("--show-failed-logs", "--", "results/performance/mine.own.lr.parquet", check=False)
    assert done.returncode == 1
    assert "4 of 4 pairs have a failed target model, and max_failed_pairs allows 2" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_killed_run_resumes(study, tmp_path) -> None:
    """SIGKILL to the whole run in the middle; what was finished is neither lost nor trained again."""
    study.study["n_models"], study.study["chunk_size"] = 64, 4
    target = "results/confidences/size.bc.net/clean.parquet"
    store = study.folder / "results/store"
    known = len(list(store.rglob("performance.json")))
    run = subprocess.Popen(
        study.command("--", target),
        env=study.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(store.rglob("performance.json"))) < known + 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    finished = {path: path.stat().st_mtime_ns for path in store.rglob("performance.json")}
    assert known + 8 <= len(finished) < known + 56
    study.run("--unlock")
    study.run("--rerun-incomplete", "--", target)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(list(store.rglob("performance.json"))) == known + 56
    # An undisturbed run of all 64 in one job of their own.
    recipe = canonical(metadata(study.folder / target, "confidences")["recipe"])
    arguments = ["--dataset", str(study.folder / "results/datasets/bc"), "--recipe", recipe, "--models", "0-63"]
    arguments += ["--queries", '{"clean":{"kind":"clean"}}', "--store", str(tmp_path / "another-store")]
    arguments += ["--output", str(tmp_path / "undisturbed.parquet")]
    assert cli("train", *arguments).returncode == 0
    undisturbed = pd.read_parquet(tmp_path / "undisturbed.parquet").drop(columns="query")
    assert pd.read_parquet(study.folder / target).equals(undisturbed)


def test_a_failed_download_fails(study) -> None:
    done = study.run("--", "download", check=False)
    assert done.returncode == 1
    assert "no dataset of the configuration states a url" in done.stdout
    assert "The report is at" not in done.stdout
