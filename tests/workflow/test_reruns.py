"""What an edit of the configuration costs: the exact set of jobs, and what the store serves (docs/reruns.md)."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from expected_jobs import ALL, CHUNKS, REPORT, auditing, gathering, training


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
    """Planned for all experiments, and run for one."""
    one, audited = "mine.own.lr", "audit/mine.own.lr/clean/patients.parquet"
    before = study.table(audited)
    study.study["n_models"] = 12
    assert study.planned() == training(*ALL, chunks=["8-11"]) | gathering(*ALL) | auditing(*ALL)
    study.run(f"results/{audited}", f"results/performance/{one}.parquet")
    assert {study.served()[f"{one}/{chunk}"] for chunk in [*CHUNKS, "8-11"]} == {(0, 4)}
    assert study.table(audited) != before
    study.study["n_models"] = 8
    assert study.planned() == gathering(one) | auditing(one)
    study.run(f"results/{audited}")
    assert study.table(audited) == before


def test_chunk_size_cuts_chunks_from_the_store(study) -> None:
    """Planned for all experiments, and run for one."""
    one, gathered = "mine.own.lr", "confidences/mine.own.lr/clean.parquet"
    before = study.table(gathered)
    study.study["chunk_size"] = 6
    assert study.planned() == training(*ALL, chunks=["0-5", "6-7"]) | gathering(*ALL) | auditing(*ALL)
    study.run(f"results/{gathered}")
    served = study.served()
    assert (served[f"{one}/0-5"], served[f"{one}/6-7"]) == ((6, 0), (2, 0))
    assert study.table(gathered) == before


def test_an_edit_taken_back_trains_nothing(study) -> None:
    before = study.table("confidences/mine.own.lr/clean.parquet")
    recipe = study.study["experiments"]["mine"]["recipe"]
    study.study["experiments"]["mine"]["recipe"] = {**recipe, "epochs": 2}
    study.run("results/confidences/mine.own.lr/clean.parquet")
    assert study.table("confidences/mine.own.lr/clean.parquet") != before
    study.study["experiments"]["mine"]["recipe"] = recipe
    assert study.planned() == training("mine.own.lr") | gathering("mine.own.lr") | auditing("mine.own.lr")
    study.run("results/confidences/mine.own.lr/clean.parquet")
    assert {study.served()[f"mine.own.lr/{chunk}"] for chunk in CHUNKS} == {(4, 0)}
    assert study.table("confidences/mine.own.lr/clean.parquet") == before


def test_another_name_for_a_query_asks_again(study) -> None:
    study.study["queries"] = {"clean": {"kind": "clean"}, "again": {"kind": "clean"}}
    planned = study.planned()
    assert planned["train"] == training(*ALL)["train"]
    assert "prepare" not in planned
    assert planned["access"] == planned["access_figures"] == ALL
    compared = "results/compare/access/size.bc.net.parquet"
    study.run(compared)
    served = {job: models for job, models in study.served().items() if job.startswith("size.bc.net/")}
    assert set(served.values()) == {(4, 0)}  # the same question has been answered before
    again = pd.read_parquet(study.folder / "results/confidences/size.bc.net/again.parquet")
    assert again.equals(pd.read_parquet(study.folder / "results/confidences/size.bc.net/clean.parquet"))
    compared = pd.read_parquet(study.folder / compared)
    assert compared["query"].unique().tolist() == ["clean", "again"]
    assert compared["still_vulnerable"].equals(compared["vulnerable"])
    assert np.allclose(compared["rank_correlation"], 1)


@pytest.mark.parametrize("keep", [True, False])
def test_a_new_query_is_asked_of_the_same_models(study, keep: bool) -> None:
    """Kept weights are asked; else models are trained again. Either way old answers stay, and only one entry pays."""
    study.study["running"] = {"keep_weights": keep}
    if keep:
        shutil.rmtree(study.folder / "results/store")
        chunks = [f"results/targets/size.bc.net/{chunk}.parquet" for chunk in CHUNKS]
        study.run("--forcerun", *chunks, "--", *chunks)
    study.study["queries"] = {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean radius"]}}
    study.study["experiments"]["mine"]["queries"] = "clean"
    planned = study.planned()
    assert planned["train"] == training("size.bc.lr", "size.bc.net")["train"]
    assert planned["access"] == ["size.bc.lr", "size.bc.net"]
    before = study.table("audit/size.bc.net/clean/patients.parquet")
    audited = [f"results/audit/size.bc.net/{query}/patients.parquet" for query in ("clean", "part")]
    study.run(*audited)
    logs = (study.folder / "results/logs/train/size.bc.net/0-3.log").read_text()
    assert ("4 asked again, 0 trained" if keep else "0 served from the store, 4 trained") in logs
    assert study.table("audit/size.bc.net/clean/patients.parquet") == before
    assert study.table("audit/size.bc.net/part/patients.parquet") != before
    assert study.planned(*audited) == {}


def test_how_models_are_run_reruns_nothing(study) -> None:
    study.study["running"] = {"stack_size": 2, "checkpoint_minutes": 1}
    assert study.planned() == {}


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_a_profile_reruns_nothing(study, tmp_path_factory, profile: str) -> None:
    """The study was run without one. Memory, time, threads, retries and the number of jobs are all other ones."""
    folder = tmp_path_factory.mktemp("profiles") / profile
    shutil.copytree(study.repository / "workflow/profiles" / profile, folder)
    settings = yaml.safe_load((folder / "profile.yaml").read_text())
    settings |= {"retries": 7, "latency-wait": 9, "set-threads": {"audit": 1, "prepare": 1}}
    settings["default-resources"] = {"mem_mb": "7000 * attempt", "runtime": "77 * attempt"}
    settings["set-resources"] = {rule: {"mem_mb": 9000, "runtime": 99} for rule in ("train", "audit", "prepare")}
    (folder / "profile.yaml").write_text(yaml.safe_dump(settings))
    assert study.planned("--profile", str(folder), "--quiet", "host") == {}
    study.study["report"] = {"title": "Another title"}
    assert study.planned("--profile", str(folder), "--quiet", "host") == REPORT


def test_a_group_variable_retrains_and_gathers_nothing(study) -> None:
    study.study["datasets"]["own"]["groups"] = ["unit", "ward"]
    assert study.planned() == {"groups": ["own"]} | auditing("mine.own.lr")
    study.run("results/audit/mine.own.lr/clean/subgroups.parquet")
    tested = pd.read_parquet(study.folder / "results/audit/mine.own.lr/clean/subgroups.parquet")
    assert set(tested["variable"]) == {"unit", "ward", "label"}


@pytest.mark.parametrize(
    ("section", "change"), [("audit", {"thresholds": [0.7, 0.95]}), ("subgroups", {"tail": 0.05, "permutations": 99})]
)
def test_audit_options(study, section: str, change: dict) -> None:
    study.study[section] = change
    assert study.planned() == auditing(*ALL)


def test_captions_of_a_table_rewrite_the_page_alone(study) -> None:
    study.study["datasets"]["own"]["title"] = "Ours {since} 2001"
    assert study.planned() == REPORT
    study.run()
    assert "Ours {since} 2001" in (study.folder / "results/report.html").read_text()


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
    study.run("results/confidences/mine.own.lr/clean.parquet")
    assert {study.served()[f"mine.own.lr/{chunk}"] for chunk in CHUNKS} == {(0, 4)}
    assert {study.served()[f"size.bc.lr/{chunk}"] for chunk in CHUNKS} == {(0, 4)}  # the log of the first run


def test_order_of_keys_reruns_nothing(study) -> None:
    recipe = study.study["experiments"]["size"]["recipe"]
    study.study["experiments"]["size"]["recipe"] = dict(reversed(recipe.items()))
    assert study.planned() == {}
