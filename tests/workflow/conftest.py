"""Real Snakemake runs: a small study that is run once and copied for every test that changes it."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
from small_study import STUDY, Workflow


@pytest.fixture(scope="session")
def finished(tmp_path_factory, repository, worker_id) -> Workflow:
    """The small study, run to the report once for all of the tests' processes. Tests copy it before they change it."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    workflow = Workflow(shared / "small-study", repository, STUDY)
    with (shared / "small-study.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workflow.folder / "results/report.html").exists():
            workflow.folder.mkdir(exist_ok=True)
            _write_records(workflow.folder / "own.csv")
            workflow.run()
    return workflow


def _write_records(path: Path) -> None:
    """Two records of each of 120 made-up patients."""
    lines = ["pid,outcome,age,lactate,unit,ward"]
    for number in range(240):
        sick = number % 3 == 0
        age, lactate, unit, ward = 40 + number % 37 + 9 * sick, number % 7, "ab"[number % 2], "xyz"[number % 3]
        lines.append(f"p{number // 2},{int(sick)},{age},{lactate},{unit},{ward}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def study(finished, tmp_path) -> Workflow:
    """A copy of the finished study that a test may change, with times and Snakemake's records kept."""
    subprocess.run(["cp", "-a", f"{finished.folder}/.", str(tmp_path)], check=True)
    shutil.rmtree(tmp_path / ".snakemake/locks", ignore_errors=True)  # of a run in the original at this moment
    return Workflow(tmp_path, finished.repository, STUDY)
