"""What a study will cost, against what it then costs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tailrisk.config.load import load_study
from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.config.study import Running
from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.prepare import prepare
from tailrisk.stages.plan import PROFILE, Cost, estimate, in_all, plan, resources
from tailrisk.training.job import run_chunk

STUDY = {
    "n_models": 8,
    "datasets": {"bc": {"source": "breast_cancer"}, "cohort": {"source": "simulated"}},
    "models": {"net": {"architecture": "tabular_resnet", "width": 64, "depth": 2}},
    "experiments": {
        "mine": {
            "datasets": ["bc", "cohort"],
            "models": "net",
            "recipe": {"epochs": 40, "batch_size": 16, "learning_rate": 0.001},
        }
    },
    "queries": {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean area"]}},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    prepare("bc", load_study(path).datasets["bc"], tmp_path / "results/datasets/bc")
    return path


def test_the_estimate_is_about_what_training_takes(study: Path, tmp_path: Path) -> None:
    """Within a factor of three of the time of the job itself, on a machine that does other things, too."""
    found, folder = Plan(load_study(study)), tmp_path / "results"
    experiment = found.experiment("mine.bc.net")
    prepared = open_prepared(folder / "datasets/bc")
    cost = estimate(experiment, found, prepared, folder / "store", torch.device("cpu"), seconds=4)
    assert (cost.models, cost.missing, cost.jobs, cost.stack) == (8, 8, 1, 8)
    assert cost.longest == cost.hours
    run = (folder / "datasets/bc", experiment.recipe, experiment.asked)
    outcome = run_chunk(*run, range(8), folder / "store", tmp_path / "0-7.parquet", progress=None)
    assert 1 / 3 < 3600 * cost.hours / outcome.seconds < 3
    stored = sum(path.stat().st_size for path in folder.rglob("store/**/*.parquet"))
    assert cost.disk == 8 * 2 * len(prepared.rows("audit")) * 10 < 4 * stored
    after = estimate(experiment, found, prepared, folder / "store", torch.device("cpu"), seconds=1)
    assert (after.missing, after.jobs, after.hours, after.longest) == (0, 0, 0, 0)


def test_kept_weights_take_disk(study: Path, tmp_path: Path) -> None:
    found = Plan(load_study(study))
    keeping = Plan(found.study.model_copy(update={"running": Running(keep_weights=True)}))
    prepared = open_prepared(tmp_path / "results/datasets/bc")
    costs = [
        estimate(one.experiment("mine.bc.net"), one, prepared, tmp_path / "store", torch.device("cpu"), seconds=1)
        for one in (found, keeping)
    ]
    weights = 32 * 64 + 64 + 2 * (2 * 64 + 2 * (64 * 64 + 64)) + 2 * 64 + 64 * 16 + 16  # padded to 16
    assert costs[1].disk - costs[0].disk == 8 * 4 * weights


def test_jobs_are_those_whose_models_are_missing(study: Path, tmp_path: Path) -> None:
    """Of chunks 0-2, 3-5 and 6-7 the first is done and one model of the second is."""
    found = Plan(load_study(study).model_copy(update={"chunk_size": 3}))
    experiment, folder = found.experiment("mine.bc.net"), tmp_path / "results/datasets/bc"
    run = (folder, experiment.recipe, experiment.asked)
    run_chunk(*run, range(4), tmp_path / "store", tmp_path / "0-3.parquet", progress=None)
    cost = estimate(experiment, found, open_prepared(folder), tmp_path / "store", torch.device("cpu"), seconds=1)
    assert (cost.missing, cost.to_ask, cost.jobs, cost.stack) == (4, 0, 2, 2)
    assert cost.longest == pytest.approx(cost.hours / 2)


def test_a_stack_that_is_not_full_takes_the_time_of_a_stack(study: Path, tmp_path: Path) -> None:
    """Of two chunks of 4 one lacks two models and the other one: a stack each."""
    found = Plan(load_study(study).model_copy(update={"chunk_size": 4}))
    experiment, folder = found.experiment("mine.bc.net"), tmp_path / "results/datasets/bc"
    run, store = (folder, experiment.recipe, experiment.asked), tmp_path / "store"
    run_chunk(*run, range(2), store, tmp_path / "0-1.parquet", progress=None)
    run_chunk(*run, range(4, 7), store, tmp_path / "4-6.parquet", progress=None)
    cost = estimate(experiment, found, open_prepared(folder), store, torch.device("cpu"), seconds=1)
    assert (cost.missing, cost.jobs, cost.stack) == (3, 2, 2)
    assert cost.longest == pytest.approx(cost.hours / 2)


def test_models_whose_weights_were_kept_are_asked_not_trained(study: Path, tmp_path: Path) -> None:
    """A new query: two models of four kept their weights."""
    given = load_study(study).model_copy(update={"n_models": 4})
    found, folder, store = Plan(given), tmp_path / "results/datasets/bc", tmp_path / "results/store"
    experiment = found.experiment("mine.bc.net")
    clean = Plan(given.model_copy(update={"queries": {"clean": given.queries["clean"]}})).experiment("mine.bc.net")
    run = (folder, experiment.recipe, clean.asked)
    for models, keeping in ((range(2), True), (range(2, 4), False)):
        run_chunk(*run, models, store, tmp_path / "t.parquet", running=Running(keep_weights=keeping), progress=None)
    device = torch.device("cpu")
    cost = estimate(experiment, found, open_prepared(folder), store, device, seconds=1)
    assert (cost.missing, cost.to_ask, cost.jobs) == (2, 2, 1)
    study.write_text(yaml.safe_dump(STUDY | {"n_models": 4}))
    said = list(plan(study, tmp_path / "results", "cpu", seconds=1))[1]
    assert "mine.bc.net: 2 of 4 target models to train and 2 to ask further queries, " in said
    outcome = run_chunk(folder, experiment.recipe, experiment.asked, range(4), store, tmp_path / "t", progress=None)
    assert (outcome.trained, outcome.asked) == (2, 2)


def test_asking_takes_less_than_training(study: Path, tmp_path: Path) -> None:
    given = load_study(study).model_copy(update={"n_models": 2})
    found, folder, store = Plan(given), tmp_path / "results/datasets/bc", tmp_path / "store"
    experiment = found.experiment("mine.bc.net")
    clean = Plan(given.model_copy(update={"queries": {"clean": given.queries["clean"]}})).experiment("mine.bc.net")
    arguments = (open_prepared(folder), store, torch.device("cpu"))
    new = estimate(experiment, found, *arguments, seconds=1)
    keeping = Running(keep_weights=True)
    run_chunk(folder, experiment.recipe, clean.asked, range(2), store, tmp_path / "t", running=keeping, progress=None)
    cost = estimate(experiment, found, *arguments, seconds=1)
    assert (cost.missing, cost.to_ask, cost.jobs) == (0, 2, 1)
    assert 0 < cost.hours < new.hours / 4


def test_what_it_asks_of_a_cluster(tmp_path: Path) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(
        "default-resources:\n  mem_mb: 2500 * attempt\n  runtime: 60\n"
        "set-resources:\n  train:\n    mem_mb: 8500 * attempt\n    slurm_partition: gpu\n"
    )
    assert resources(profile) == {"mem_mb": 8500, "runtime": 60}
    assert resources(tmp_path / "absent.yaml") == {}
    small = Cost(models=200, missing=200, to_ask=0, jobs=8, hours=4.0, longest=0.5, disk=0, memory=2**30, stack=25)
    large = replace(small, hours=16.0, longest=2.0, memory=9 * 2**30)
    told = list(in_all({"a.d.m": small, "b.d.m": large}, on_gpu=False, profile=profile))
    assert told == [
        "in all 16 training jobs, 20.0 h",
        "  jobs side by side divide it at best; another device takes another time",
        "  on a cluster, to start them takes 2.7 min more (10 s a job, 0.2% of all)",
        "  longest job: 2.0 h (b.d.m); the slurm profile asks for 1.0 h: TOO LITTLE, raise `runtime` of train in it, "
        "or lower chunk_size",
        "  most memory: 9.5 GiB, Snakemake included (b.d.m); the slurm profile asks for 7.9 GiB: TOO LITTLE, raise "
        "`mem_mb` of train in it",
    ]
    told = list(in_all({"a.d.m": small}, on_gpu=True, profile=profile))
    assert told[0] == "in all 8 training jobs, 4.0 h of one GPU"
    assert told[3] == "  longest job: 30.0 min (a.d.m); the slurm profile asks for 1.0 h"
    assert "most memory of a GPU: 1.0 GiB" in told[4]
    assert list(in_all({"a.d.m": replace(small, missing=0, jobs=0)}, on_gpu=False)) == ["nothing is left to train"]


@pytest.mark.parametrize(
    ("stated", "read"),
    [("60", 60), ("240 * attempt", 240), ("min(240 * attempt, 1440)", 240), ("min(240 * attempt, 120)", 120)],
)
def test_what_a_profile_asks_for_at_the_first_attempt(tmp_path: Path, stated: str, read: int) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(f"set-resources:\n  train:\n    runtime: {stated}\n")
    assert resources(profile) == {"runtime": read}


@pytest.mark.parametrize("stated", ["1d", "min(240 * attempt", "attempt * 60"])
def test_what_cannot_be_compared_is_said(tmp_path: Path, stated: str) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(f"set-resources:\n  train:\n    runtime: {stated}\n    mem_mb: 8500\n")
    cost = Cost(models=8, missing=8, to_ask=0, jobs=1, hours=90.0, longest=90.0, disk=0, memory=2**30, stack=8)
    told = list(in_all({"a.d.m": cost}, on_gpu=False, profile=profile))
    assert told[2] == (
        "  longest job: 90.0 h (a.d.m); not compared with the slurm profile, which states no `runtime` of train as a "
        "plain number"
    )
    assert told[3].endswith("; the slurm profile asks for 7.9 GiB")


def test_the_profile_of_the_repository_says_what_training_jobs_ask_for() -> None:
    assert set(resources(PROFILE)) >= {"mem_mb", "runtime"}


def test_a_table_from_elsewhere_has_its_line(study: Path, tmp_path: Path) -> None:
    tables = {"confidences": "c.parquet", "records": "r.parquet", "pairing": "unknown"}
    study.write_text(yaml.safe_dump({"experiments": {"published": tables}}))
    assert list(plan(study, tmp_path / "results", "cpu", seconds=1))[1:] == [
        "  published: a confidence table from elsewhere; nothing to train",
        "nothing is left to train",
    ]


def test_unprepared_data_is_said(study: Path, tmp_path: Path) -> None:
    lines = list(plan(study, tmp_path / "results", "cpu", seconds=2))
    assert "mine.bc.net: 8 of 8 target models to train" in lines[1]
    assert lines[2].strip() == "mine.cohort.net: 8 target models; not known before the data is prepared"
    assert lines[-1].startswith(f"to know the rest, prepare first: {program('snakemake')} datasets")
    assert not list((tmp_path / "results").rglob("store"))
