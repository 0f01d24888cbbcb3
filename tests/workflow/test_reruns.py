"""What an edit costs: the exact set of jobs that follow from it (design §5), and what the store serves."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from small_study import Workflow

ALL = ["mine.own.lr", "size.bc.lr", "size.bc.net"]
CHUNKS = ["0-3", "4-7"]
REPORT = {"report": [""]}
FIRST = {"mine.own.lr", "size.bc.lr", "mine.sim.lr"}  # of their datasets: their groups are compared


def training(*experiments: str, chunks: list[str] = CHUNKS) -> dict[str, list[str]]:
    return {"train": [f"{experiment}, {chunk}" for experiment in experiments for chunk in chunks]}


def gathering(*experiments: str) -> dict[str, list[str]]:
    return {"gather": [f"{experiment}, clean" for experiment in experiments], "performance": list(experiments)}


def drawing(*experiments: str) -> dict[str, list[str]]:
    """Figures and what follows from them."""
    jobs = {"audit_figures": [f"{experiment}, clean" for experiment in experiments]} | REPORT
    if any(experiment.startswith("size") for experiment in experiments):
        jobs |= {"comparison_figures": ["size.bc, clean"]}
    if FIRST & set(experiments):
        jobs |= {"group_figures": [""]}
    return jobs


def auditing(*experiments: str) -> dict[str, list[str]]:
    """The audit and what follows from it."""
    jobs = {"audit": [f"{experiment}, clean" for experiment in experiments]} | drawing(*experiments)
    if any(experiment.startswith("size") for experiment in experiments):
        jobs |= {"capacity": ["size.bc, clean"], "stability": ["bc"]}
    if FIRST & set(experiments):
        jobs |= {"groups_across_datasets": [""]}
    return jobs


def test_a_finished_study_has_nothing_to_do(finished) -> None:
    done = finished.run()
    assert "Nothing to be done" in done.stdout
    assert (finished.folder / "results/report.html").exists()
    assert finished.served() == {f"{name}/{chunk}": (0, 4) for name in ALL for chunk in CHUNKS}


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


def test_learning_rate_of_one_entry(study) -> None:
    study.study["experiments"]["mine"]["recipe"] = {
        **study.study["experiments"]["mine"]["recipe"],
        "learning_rate": 0.02,
    }
    assert study.planned() == training("mine.own.lr") | gathering("mine.own.lr") | auditing("mine.own.lr")


def test_a_new_architecture(study) -> None:
    study.study["models"]["wide"] = {"architecture": "tabular_resnet", "width": 6, "depth": 1}
    study.study["experiments"]["size"]["models"] = ["lr", "net", "wide"]
    assert study.planned() == training("size.bc.wide") | gathering("size.bc.wide") | auditing("size.bc.wide")


def test_a_new_dataset(study) -> None:
    study.study["datasets"]["sim"] = {"source": "simulated", "patients": 200}
    study.study["experiments"]["mine"]["datasets"] = ["own", "sim"]
    new = {"prepare": ["sim"], "groups": ["sim"], "baseline": ["sim"], "duplicates": ["sim"]}
    assert study.planned() == new | training("mine.sim.lr") | gathering("mine.sim.lr") | auditing("mine.sim.lr")


def test_more_models_and_fewer_again(study) -> None:
    before = study.table("audit/mine.own.lr/clean/patients.parquet")
    study.study["n_models"] = 12
    new = training(*ALL, chunks=["8-11"]) | gathering(*ALL) | auditing(*ALL)
    assert study.planned() == new
    study.run()
    assert study.served() == {f"{e}/{c}": (0, 4) for e in ALL for c in [*CHUNKS, "8-11"]}
    study.study["n_models"] = 8
    assert study.planned() == gathering(*ALL) | auditing(*ALL)
    study.run("results/audit/mine.own.lr/clean/patients.parquet")
    assert study.table("audit/mine.own.lr/clean/patients.parquet") == before


def test_chunk_size_cuts_chunks_from_the_store(study) -> None:
    before = {e: study.table(f"confidences/{e}/clean.parquet") for e in ALL}
    study.study["chunk_size"] = 6
    new = ["0-5", "6-7"]
    assert study.planned() == training(*ALL, chunks=new) | gathering(*ALL) | auditing(*ALL)
    study.run("confidences")
    served = study.served()
    assert {job: served[job] for job in served if job.endswith(tuple(new))} == {
        f"{e}/{c}": (n, 0) for e in ALL for c, n in (("0-5", 6), ("6-7", 2))
    }
    assert {e: study.table(f"confidences/{e}/clean.parquet") for e in ALL} == before


def test_an_edit_taken_back_trains_nothing(study) -> None:
    before = study.table("confidences/mine.own.lr/clean.parquet")
    recipe = study.study["experiments"]["mine"]["recipe"]
    study.study["experiments"]["mine"]["recipe"] = {**recipe, "epochs": 2}
    study.run("confidences")
    assert study.table("confidences/mine.own.lr/clean.parquet") != before
    study.study["experiments"]["mine"]["recipe"] = recipe
    study.run("confidences")
    assert {study.served()[f"mine.own.lr/{chunk}"] for chunk in CHUNKS} == {(4, 0)}
    assert study.table("confidences/mine.own.lr/clean.parquet") == before


def test_another_name_for_a_query_asks_again(study) -> None:
    study.study["queries"] = {"clean": {"kind": "clean"}, "again": {"kind": "clean"}}
    planned = study.planned()
    assert planned["train"] == training(*ALL)["train"]
    assert "prepare" not in planned
    assert planned["access"] == planned["access_figures"] == ALL
    study.run()
    assert set(study.served().values()) == {(4, 0)}  # the same question has been answered before
    again = pd.read_parquet(study.folder / "results/confidences/size.bc.net/again.parquet")
    assert again.equals(pd.read_parquet(study.folder / "results/confidences/size.bc.net/clean.parquet"))
    compared = pd.read_parquet(study.folder / "results/compare/access/size.bc.net.parquet")
    assert compared["query"].unique().tolist() == ["clean", "again"]
    assert compared["still_vulnerable"].equals(compared["vulnerable"])
    assert np.allclose(compared["rank_correlation"], 1)
    page = (study.folder / "results/report.html").read_text()
    assert page.count("Asked with the whole record (query clean).") == len(ALL)


@pytest.mark.parametrize("keep", [True, False])
def test_a_new_query_is_asked_of_the_same_models(study, keep: bool) -> None:
    """Kept weights are asked; else models are trained again. Either way old answers stay, and only one entry pays."""
    study.study["running"] = {"keep_weights": keep}
    if keep:
        shutil.rmtree(study.folder / "results/store")
        study.run("--forcerun", "train", "--until", "train")
    study.study["queries"] = {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean radius"]}}
    study.study["experiments"]["mine"]["queries"] = "clean"
    planned = study.planned()
    assert planned["train"] == training("size.bc.lr", "size.bc.net")["train"]
    assert planned["access"] == ["size.bc.lr", "size.bc.net"]
    before = study.table("audit/size.bc.net/clean/patients.parquet")
    study.run()
    logs = (study.folder / "results/logs/train/size.bc.net/0-3.log").read_text()
    assert ("4 asked again, 0 trained" if keep else "0 served from the store, 4 trained") in logs
    assert study.table("audit/size.bc.net/clean/patients.parquet") == before
    assert study.table("audit/size.bc.net/part/patients.parquet") != before
    assert study.planned() == {}


def test_how_models_are_run_reruns_nothing(study) -> None:
    study.study["running"] = {"stack_size": 2, "checkpoint_minutes": 1}
    assert study.planned() == {}


def test_a_group_variable_retrains_and_gathers_nothing(study) -> None:
    study.study["datasets"]["own"]["groups"] = ["unit", "ward"]
    assert study.planned() == {"groups": ["own"]} | auditing("mine.own.lr")
    study.run()
    tested = pd.read_parquet(study.folder / "results/audit/mine.own.lr/clean/subgroups.parquet")
    assert set(tested["variable"]) == {"unit", "ward", "label"}


@pytest.mark.parametrize(
    ("section", "change"), [("audit", {"thresholds": [0.7, 0.95]}), ("subgroups", {"tail": 0.05, "permutations": 99})]
)
def test_audit_options(study, section: str, change: dict) -> None:
    study.study[section] = change
    assert study.planned() == auditing(*ALL)


@pytest.mark.parametrize("variables", [["unti"], ["nothing"]])
def test_a_group_variable_that_does_not_exist_is_named(study, variables: list[str]) -> None:
    study.study["subgroups"] = {"variables": variables, "permutations": 99}
    done = study.run("results/audit/mine.own.lr/clean/summary.json", check=False)
    assert done.returncode == 1
    assert f"has no variable '{variables[0]}'" in done.stdout


def test_captions_of_a_table_rewrite_the_page_alone(study) -> None:
    study.study["datasets"]["own"]["title"] = "Ours {since} 2001"
    assert study.planned() == REPORT
    study.run()
    assert "Ours {since} 2001" in (study.folder / "results/report.html").read_text()


def test_templates_rewrite_the_page_alone(study, edited_package) -> None:
    edited_package("report/templates/report.html.j2", "</title>", " </title>")
    assert study.planned() == REPORT


def test_title_of_the_report(study) -> None:
    study.study["report"] = {"title": "Another title"}
    assert study.planned() == REPORT


def test_changed_data_retrains_that_dataset_only(study) -> None:
    table = study.folder / "own.csv"
    table.write_text(table.read_text().replace("p0,1,", "p0,0,", 1))
    # The source is a param and not an input, so that studies plan without data: preparing again is asked for.
    assert study.planned() == {}
    told = subprocess.run(
        [sys.executable, "-m", "tailrisk.cli", "check", "study.yaml"],
        cwd=study.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "the source of 'own' has changed since" in told.stderr
    study.study["datasets"]["own"]["groups"] = ["unit", "ward"]
    refused = study.run("--", "results/datasets/own/groups.parquet", check=False)
    assert refused.returncode == 1
    told = "has changed since results/datasets/own was prepared: remove results/datasets/own/card.json and run again"
    assert told in refused.stdout
    study.study["datasets"]["own"]["groups"] = ["unit"]
    (study.folder / "results/datasets/own/card.json").unlink()
    study.run("--", "results/datasets/own/records.parquet", "results/datasets/own/card.json")
    planned = study.planned()
    assert planned["train"] == training("mine.own.lr")["train"]
    study.run("confidences")
    assert {study.served()[f"mine.own.lr/{chunk}"] for chunk in CHUNKS} == {(0, 4)}
    assert {study.served()[f"size.bc.lr/{chunk}"] for chunk in CHUNKS} == {(0, 4)}  # the log of the first run


def test_touching_everything_reruns_nothing(study) -> None:
    for path in sorted((study.folder / "results/datasets").rglob("*")):
        path.touch()
        time.sleep(0.01)
    assert study.planned() == {}


def test_order_of_keys_reruns_nothing(study) -> None:
    recipe = study.study["experiments"]["size"]["recipe"]
    study.study["experiments"]["size"]["recipe"] = dict(reversed(recipe.items()))
    assert study.planned() == {}


@pytest.fixture
def edited_package(study, tmp_path_factory):
    """Edits a copy of the package and runs the study with it; for code that must, or must not, rerun something."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(study.repository / "workflow/tailrisk", folder / "tailrisk")
    study.environment["PYTHONPATH"] = str(folder)

    def edit(file: str, old: str, new: str) -> None:
        path = folder / "tailrisk" / file
        text = path.read_text()
        assert old in text, f"{old} is not in {file}"
        path.write_text(text.replace(old, new, 1))

    return edit


def test_a_formula_reruns_the_analysis_alone(study, edited_package) -> None:
    edited_package("audit/survival.py", "\nimport numpy", "\nLEVEL_OF_CONFIDENCE = 0.94\nimport numpy")
    assert study.planned() == auditing(*ALL)


def test_a_figure_style_redraws_alone(study, edited_package) -> None:
    edited_package("figures/style.py", "\nimport ", "\nANOTHER = 1\nimport ")
    assert study.planned() == drawing(*ALL)


def test_the_search_for_copies_prepares_nothing_again(study, edited_package) -> None:
    edited_package("datasets/near.py", "= 64, 16, 2000", "= 48, 16, 2000")
    assert study.planned() == {"duplicates": ["bc", "own"]} | REPORT


def test_docstrings_rerun_nothing(study, edited_package) -> None:
    for file in (
        "audit/survival.py",
        "figures/style.py",
        "datasets/prepare.py",
        "datasets/near.py",
        "training/engine.py",
        "tables.py",
    ):
        edited_package(file, '"""', '"""Reworded: ')
    assert study.planned() == {}


def test_training_code_never_retrains_by_itself(study, edited_package) -> None:
    edited_package("training/engine.py", "import", "SOMETHING = 1\nimport")
    assert "train" not in study.planned()


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
