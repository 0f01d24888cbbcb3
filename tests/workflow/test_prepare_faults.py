"""Preparing a folder of images by Snakemake: killed on the way, stopped for lack of files, and not done twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_study import Workflow

from tailrisk.datasets.decode import SAVED
from tailrisk.tables import read_json, read_table

N = 320
OUTPUTS = ["inputs.npy", "labels.npy", "records.parquet", "excluded.parquet", "card.json"]
STUDY = {
    "n_models": 4,
    "datasets": {
        "x": {
            "source": "images",
            "path": "own.csv",
            "folder": "images",
            "patient": "pid",
            "file": "file",
            "label": "finding",
            "size": 16,
        }
    },
    "models": {"m": {"architecture": "wide_resnet", "depth": 10, "width": 1}},
    "experiments": {
        "e": {"datasets": "x", "models": "m", "recipe": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}}
    },
}
CARD, GROUPS = "results/datasets/x/card.json", "results/datasets/x/groups.parquet"


def workflow(folder: Path, repository: Path) -> Workflow:
    """A study of small pictures, each a patient's own."""
    (folder / "images").mkdir(parents=True)
    lines = ["pid,file,finding,sex"]
    for row in range(N):
        restored(folder, row)
        lines.append(f"{row},{row:03d}.png,{row % 2},{'fm'[row // 2 % 2]}")
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    return Workflow(folder, repository, STUDY)


def restored(folder: Path, row: int) -> Path:
    """Put the picture of a row in its place."""
    path = folder / f"images/{row:03d}.png"
    path.unlink(missing_ok=True)
    Image.fromarray(np.random.default_rng(row).integers(0, 255, (24, 24), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, repository) -> Workflow:
    done = workflow(tmp_path_factory.mktemp("undisturbed") / "study", repository)
    done.run("--", CARD)
    return done


def log(study: Workflow) -> str:
    return (study.folder / "results/logs/prepare/x.log").read_text()


def same(study: Workflow, undisturbed: Workflow) -> None:
    for name in OUTPUTS:
        assert study.table(f"datasets/x/{name}") == undisturbed.table(f"datasets/x/{name}"), name
    assert not list((study.folder / "results/datasets/x").glob(".*"))


def poured(pipe: Path, content: bytes, wait: float) -> None:
    """Hand `content` to the process that reads from a named pipe, `wait` seconds after it has begun to."""
    deadline = time.monotonic() + 120
    while True:
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # nobody reads yet
            assert time.monotonic() < deadline
            time.sleep(0.05)
    time.sleep(wait)
    os.write(end, content)
    os.close(end)


def test_a_killed_preparation_is_taken_up(undisturbed, tmp_path, repository) -> None:
    """SIGKILL to the whole run; what was decoded until the last note is not decoded again.

    Two pictures are named pipes, at which decoding waits: for two seconds, after which it notes what it has done, and
    for the end.
    """
    study = workflow(tmp_path / "study", repository)
    pipes = [study.folder / f"images/{row:03d}.png" for row in (5, 200)]
    content = pipes[0].read_bytes()
    for pipe in pipes:
        pipe.unlink()
        os.mkfifo(pipe)
    run = subprocess.Popen(
        study.command("--", CARD),
        env=study.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    folder = study.folder / "results/datasets/x"
    state, deadline = folder / ".decoding/state.json", time.monotonic() + 120
    try:
        poured(pipes[0], content, SAVED + 0.3)
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    done = read_json(state)["done"]  # of one block of 40; of more where the machine is slow
    assert done in (40, 80, 120, 160, 200)
    assert [path.name for path in folder.iterdir()] == [".decoding"]
    for row in (5, 200):
        restored(study.folder, row)
    study.run("--unlock")
    study.run("--rerun-incomplete", "--", CARD)
    # Row 5, whose pipe gave way to a file since, is decoded again.
    resumed = f"{done - 1} of {N} images already decoded; 1 that could not be used, or have changed, are decoded again"
    assert log(study) == f"{resumed}\nx: {N} records of {N} patients\n"
    same(study, undisturbed)


def test_above_the_share_it_stops_with_a_sentence_and_goes_on(undisturbed, tmp_path, repository) -> None:
    study = workflow(tmp_path / "study", repository)
    for row in (300, 301, 302, 303):
        (study.folder / f"images/{row}.png").unlink()
    done = study.run("--show-failed-logs", "--", CARD, check=False)
    assert done.returncode == 1
    assert log(study) == (
        f"Error: 4 of {N} images cannot be used so far, more than the share 0.01 that `max_quarantined` allows: "
        "images/300.png (missing), images/301.png (missing), images/302.png (missing) and 1 more; fetch them again "
        "(what is decoded is kept), or raise the share\n"
    )
    assert log(study) in done.stdout
    assert "Traceback" not in done.stdout
    assert not (study.folder / CARD).exists()
    restored(study.folder, 300)
    study.run("--", CARD)
    resumed = f"{N - 4} of {N} images already decoded; 4 that could not be used, or have changed, are decoded again"
    left = f"x: {N - 3} records of {N - 3} patients; 3 left out as their files cannot be used: see excluded.parquet"
    assert log(study) == f"{resumed}\n{left}\n"
    card = read_json(study.folder / CARD)
    assert (card["rows"], card["n_records"], card["quarantined"]) == (N, N - 3, {"missing": 3})
    excluded = read_table(study.folder / "results/datasets/x/excluded.parquet", "excluded")
    assert excluded["detail"].tolist() == ["images/301.png", "images/302.png", "images/303.png"]
    for row in (301, 302, 303):
        restored(study.folder, row)
    study.run("--forcerun", "prepare", "--", CARD)
    same(study, undisturbed)


def test_a_group_column_decodes_nothing(undisturbed, tmp_path) -> None:
    subprocess.run(["cp", "-a", f"{undisturbed.folder}/.", str(tmp_path)], check=True)
    study = Workflow(tmp_path, undisturbed.repository, STUDY)
    assert study.planned("--", GROUPS) == {"groups": ["x"]}
    study.run("--", GROUPS)
    assert list(read_table(study.folder / GROUPS, "groups")) == ["record", "label"]
    prepared = {name: (study.folder / f"results/datasets/x/{name}").stat().st_mtime_ns for name in OUTPUTS}
    study.study["datasets"]["x"] |= {"groups": ["sex"], "max_quarantined": 0.5, "title": "X"}
    assert study.planned("--", GROUPS) == {"groups": ["x"]}
    study.run("--", GROUPS)
    assert list(read_table(study.folder / GROUPS, "groups")) == ["record", "sex", "label"]
    study.study["datasets"]["x"] |= {"separators": {"sex": ";"}}
    assert study.planned("--", GROUPS) == {"groups": ["x"]}
    assert {name: (study.folder / f"results/datasets/x/{name}").stat().st_mtime_ns for name in prepared} == prepared
    study.study["datasets"]["x"] |= {"size": 24}
    assert study.planned("--", GROUPS) == {"groups": ["x"], "prepare": ["x"]}


def test_a_full_disk_while_images_are_decoded(undisturbed, tmp_path) -> None:
    """One sentence; with more room, the same command ends as it would have."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a file system here")
    source = json.dumps(undisturbed.study["datasets"]["x"])
    command = [sys.executable, "-m", "tailrisk.cli", "prepare", "--name", "x", "--source", source]
    command += ["--threads", "2", "--output", str(disk / "x")]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=undisturbed.folder, text=True, capture_output=True, check=False)

    try:
        done = run()
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "the disk is full; mend that and run again" in done.stderr
        assert not (disk / "x/inputs.npy").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert run().returncode == 0
        for name in OUTPUTS:
            assert (disk / "x" / name).read_bytes() == undisturbed.table(f"datasets/x/{name}")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
