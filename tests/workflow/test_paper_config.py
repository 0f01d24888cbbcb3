"""config/paper.yaml: valid, planned without any data, and asking for what the sources have."""

import time
from pathlib import Path

import pytest
import yaml
from small_study import Workflow

from tailrisk.config.load import load_study, parse
from tailrisk.config.plan import Plan
from tailrisk.config.sources import AnySource
from tailrisk.datasets.prepare import read

EXPERIMENTS = {
    "chexpert.chexpert.wrn-28-2",
    "chexpert.chexpert.wrn-40-4",
    "chexpert-vit.chexpert.vit-b-16",
    "chexpert-vit.chexpert.vit-l-16",
    "chexpert-vit-128.chexpert-128.vit-b-16",
    "mimic-cxr.mimic-cxr.wrn-28-2",
    "fitzpatrick17k.fitzpatrick17k.wrn-28-2",
    "fitzpatrick17k.fitzpatrick17k.wrn-40-4",
    "fitzpatrick17k-vit.fitzpatrick17k.vit-b-16",
    "fitzpatrick17k-vit.fitzpatrick17k.vit-l-16",
    "fitzpatrick17k-vit-128.fitzpatrick17k-128.vit-b-16",
    "fairvision.fairvision.wrn-28-2",
    "embed.embed.wrn-28-2",
    "ptb-xl.ptb-xl.resnet1d-128",
    "mimic-iv-ed.mimic-iv-ed.resnet-300x6",
}
"""Seven baselines and the eight others of the two sweeps over capacity."""
PLANNED_IN = 60  # seconds, on a busy machine


@pytest.fixture(scope="module")
def config(repository: Path) -> Path:
    return repository / "config/paper.yaml"


def test_it_is_the_study_of_the_paper(config):
    plan = Plan(load_study(config))
    assert set(plan.experiments) == EXPERIMENTS
    assert {experiment.n_models for experiment in plan.experiments.values()} == {200}
    sources = {plan.dataset(name).source for name in plan.datasets}
    assert sources == {
        "chexpert",
        "mimic_cxr",
        "fitzpatrick17k",
        "fairvision",
        "embed",
        "ptbxl",
        "mimic_iv_ed",
    }
    assert set(plan.study.datasets) == set(plan.datasets)
    shapes = {name: plan.dataset(name).shape for name in plan.datasets if name not in {"ptb-xl", "mimic-iv-ed"}}
    assert shapes == {
        "chexpert": (64, 64),
        "chexpert-128": (128, 128),
        "mimic-cxr": (64, 64),
        "fitzpatrick17k": (64, 64),
        "fitzpatrick17k-128": (128, 128),
        "fairvision": (64, 64),
        "embed": (64, 48),
    }
    for name, experiment in plan.experiments.items():
        first = "clean" if experiment.dataset in {"ptb-xl", "mimic-iv-ed"} else "views"
        assert experiment.queries[0] == first, name
        assert "clean" in experiment.queries


def test_it_is_planned_in_an_empty_folder(config, repository, tmp_path):
    workflow = Workflow(tmp_path, repository, yaml.safe_load(config.read_text(encoding="utf-8")))
    start = time.monotonic()
    planned = workflow.planned()
    seconds = time.monotonic() - start
    assert len(planned["train"]) == 15 * 20
    assert len(planned["prepare"]) == len(planned["groups"]) == 9
    assert len(planned["gather"]) == 13 * 2 + 2 * 3
    assert {job.split(", ")[0] for job in planned["train"]} == EXPERIMENTS
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".snakemake") == ["study.yaml"]
    print(f"planned in {seconds:.1f} s")
    assert seconds < PLANNED_IN


@pytest.mark.parametrize(
    ("dataset", "paths"),
    [
        ("mimic-iv-ed", {"path": "mimic_iv_ed_demo_2.2", "mimic_iv": "mimic_iv_demo_2.2"}),
        ("ptb-xl", {"path": "ptbxl_subset"}),
    ],
)
def test_its_redacted_queries_name_what_the_records_have(config, open_data, dataset, paths):
    study = load_study(config)
    options = study.datasets[dataset].model_dump(exclude_unset=True)
    source = parse(AnySource, options | {key: str(open_data / name) for key, name in paths.items()}, dataset)
    features = set(read(source).features)
    (entry,) = (entry for entry in study.trained.values() if entry.datasets == dataset)
    redacted = [study.queries[query] for query in entry.queries or [] if study.queries[query].kind == "redacted"]
    assert len(redacted) == 2
    for query in redacted:
        assert set(query.known) < features
