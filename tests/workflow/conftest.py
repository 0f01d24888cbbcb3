"""Real Snakemake runs: a small study that is run once and copied for every test that changes it."""

import subprocess

import pytest
from small_study import STUDY, Workflow


@pytest.fixture(scope="session")
def finished(tmp_path_factory, repository) -> Workflow:
    """The small study, run to the report once. Tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("study")
    lines = ["pid,outcome,age,lactate,unit,ward"]
    for number in range(240):
        sick = number % 3 == 0
        age, lactate, unit, ward = 40 + number % 37 + 9 * sick, number % 7, "ab"[number % 2], "xyz"[number % 3]
        lines.append(f"p{number // 2},{int(sick)},{age},{lactate},{unit},{ward}")
    (folder / "own.csv").write_text("\n".join(lines) + "\n")
    workflow = Workflow(folder, repository, STUDY)
    workflow.run()
    return workflow


@pytest.fixture
def study(finished, tmp_path) -> Workflow:
    """A copy of the finished study that a test may change, with times and Snakemake's records kept."""
    subprocess.run(["cp", "-a", f"{finished.folder}/.", str(tmp_path)], check=True)
    return Workflow(tmp_path, finished.repository, STUDY)
