"""The small study at its end: nothing left to do, what it tells, and tables that do not depend on how it ran."""

import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from expected_jobs import ALL, CHUNKS
from small_study import Workflow


def test_a_finished_study_has_nothing_to_do(study) -> None:
    done = study.run()
    assert "Nothing to be done" in done.stdout
    assert (study.folder / "results/report.html").exists()
    assert study.served() == {f"{name}/{chunk}": (0, 4) for name in ALL for chunk in CHUNKS}


def test_the_open_study_plans_without_its_data(tmp_path, repository) -> None:
    study = Workflow(tmp_path, repository, yaml.safe_load((repository / "config/open.yaml").read_text()))
    planned = study.planned()
    assert len(planned["train"]) == 6 * 4 + 1  # 200 models in chunks of 50, six times, and 20 of the paper's network
    assert planned["report"] == [""]


def test_the_end_says_where_the_report_is(study) -> None:
    (study.folder / "results/report.html").unlink()
    done = study.run()
    assert f"The report is at {(study.folder / 'results/report.html').resolve()}" in done.stdout
    assert done.stdout.count("  • ") == 3


@pytest.mark.parametrize("variables", [["unti"], ["nothing"]])
def test_a_group_variable_that_does_not_exist_is_named(study, variables: list[str]) -> None:
    study.study["subgroups"] = {"variables": variables, "permutations": 99}
    done = study.run("results/audit/mine.own.lr/clean/summary.json", check=False)
    assert done.returncode == 1
    assert f"has no variable '{variables[0]}'" in done.stdout


def test_tables_equal_a_run_from_nothing(finished, study) -> None:
    shutil.rmtree(study.folder / "results")
    shutil.rmtree(study.folder / ".snakemake")
    study.study["chunk_size"] = 8
    study.run("audits")
    for experiment in ALL:
        for kind in ("records", "patients", "survival", "aggregate", "subgroups", "models"):
            path = f"audit/{experiment}/clean/{kind}.parquet"
            assert study.table(path) == finished.table(path), path
        assert study.summary(experiment) == finished.summary(experiment)


def test_no_patient_in_the_report(finished) -> None:
    page = (finished.folder / "results/report.html").read_text()
    records = pd.read_parquet(finished.folder / "results/datasets/own/records.parquet")
    ids = set(records["patient"]) | set(records["record"])
    words = set(np.array(page.replace("<", " ").replace(">", " ").replace('"', " ").split()))
    assert not ids & words
