"""What a study will cost, against what it then costs."""

from pathlib import Path

import pytest
import torch
import yaml

from tailrisk.config.load import load_study
from tailrisk.config.plan import Plan
from tailrisk.config.study import Running
from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.prepare import prepare
from tailrisk.stages.plan import estimate, plan
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
    assert (cost.models, cost.missing, cost.stack) == (8, 8, 8)
    run = (folder / "datasets/bc", experiment.recipe, experiment.asked)
    outcome = run_chunk(*run, range(8), folder / "store", tmp_path / "0-7.parquet", progress=None)
    assert 1 / 3 < 3600 * cost.hours / outcome.seconds < 3
    stored = sum(path.stat().st_size for path in folder.rglob("store/**/*.parquet"))
    assert cost.disk == 8 * 2 * len(prepared.rows("audit")) * 10 < 4 * stored
    after = estimate(experiment, found, prepared, folder / "store", torch.device("cpu"), seconds=1)
    assert (after.missing, after.hours) == (0, 0)


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


def test_unprepared_data_is_said(study: Path, tmp_path: Path) -> None:
    lines = list(plan(study, tmp_path / "results", "cpu", seconds=2))
    assert "mine.bc.net: 8 of 8 target models to train" in lines[1]
    assert lines[2].strip() == "mine.cohort.net: 8 target models; not known before the data is prepared"
    assert lines[-1].startswith("to know the rest, prepare first: snakemake datasets")
    assert not list((tmp_path / "results").rglob("store"))
