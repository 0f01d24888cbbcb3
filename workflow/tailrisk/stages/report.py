"""The report stage: finds the finished tables, gathers what the page says of its making, and writes the page."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailrisk import __version__
from tailrisk.config.load import parse
from tailrisk.config.plan import GIVEN_QUERY
from tailrisk.config.study import (
    Study,
    access_comparisons,
    chunks,
    comparisons,
    experiments,
    group_comparison,
    shown_datasets,
    stability_comparisons,
)
from tailrisk.report.access import AccessFiles
from tailrisk.report.audited import Files
from tailrisk.report.context import build_context
from tailrisk.report.page import write_report
from tailrisk.report.text import plural
from tailrisk.tables import metadata, read_json

PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "snakemake")


def report(results: Path, study_json: str, page: Path, headlines: Path) -> dict[str, Any]:
    """Write the page over all experiments of the study and its headline sentences, and return how it was made."""
    study = parse(Study, json.loads(study_json), "configuration")
    found = experiments(study)
    files = {
        name: Files(
            audit=results / "audit" / name / experiment.queries[0],
            performance=results / "performance" / f"{name}.parquet",
            figures=results / "figures" / name / experiment.queries[0],
        )
        for name, experiment in found.items()
    }
    files |= {
        name: Files(
            audit=results / "audit" / name / GIVEN_QUERY,
            performance=None,
            figures=results / "figures" / name / GIVEN_QUERY,
        )
        for name in study.given
    }
    datasets = {experiment.dataset: results / "datasets" / experiment.dataset for experiment in found.values()}
    shown = {name: results / "figures" / "datasets" / name for name in shown_datasets(study)}
    compared = {
        name: results / "figures" / "compare" / f"{name}.{found[members[0]].queries[0]}"
        for name, members in comparisons(study).items()
    }
    access = {
        name: AccessFiles(
            table=results / "compare" / "access" / f"{name}.parquet",
            figures=results / "figures" / "compare" / "access" / name,
        )
        for name in access_comparisons(study)
    }
    provenance = _provenance(results, study, datasets)
    stability = {name: results / "compare" / "stability" / f"{name}.parquet" for name in stability_comparisons(study)}
    groups = None
    if group_comparison(study):
        groups = (results / "compare" / "groups" / "meta.parquet", results / "figures" / "compare" / "groups")
    context = build_context(study, files, datasets, shown, compared, access, stability, groups, provenance)
    write_report(context, page, headlines)
    return provenance


def _provenance(results: Path, study: Study, datasets: dict[str, Path]) -> dict[str, str | list[str] | dict[str, Any]]:
    cards = {name: read_json(folder / "card.json") for name, folder in datasets.items()}
    checksums = {f"{name}: what training sees": card["data_hash"] for name, card in cards.items()}
    checksums |= {f"{name}: {file}": value for name, card in cards.items() for file, value in card["checksums"].items()}
    for name in study.given:
        stamp = metadata(results / "confidences" / name / f"{GIVEN_QUERY}.parquet", "confidences")
        checksums |= {f"{name}: {file}": value for file, value in stamp["checksums"].items()}
    trained = []
    for name, experiment in experiments(study).items():
        for chunk in chunks(experiment.n_models, study.chunk_size):
            path = results / "provenance" / "train" / name / f"{chunk}.json"
            if path.exists():
                trained += read_json(path).get("target_models", [])  # which earlier versions did not say
    return {
        "Report written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Report written on": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "Package versions": {"tailrisk": __version__} | {name: _version(name) for name in PACKAGES},
        "Code": _git_state(),
        "Seed": str(study.seed),
        "SHA-256 checksums": checksums,
        "Training": _training(trained),
        "Configuration": json.dumps(study.model_dump(mode="json", exclude={"running"}), indent=1),
    }


def _version(package: str) -> str:
    """The version of an installed package; an environment of the analysis alone has neither torch nor Snakemake."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not in this environment"


def _training(trained: list[dict[str, Any]]) -> list[str]:
    """One line per kind of hardware and library that target models were trained on."""
    if not trained:
        return ["the confidence tables came without a record of their training"]
    kinds: dict[str, tuple[int, float]] = {}
    for part in trained:
        line = "; ".join(f"{key}: {value}" for key, value in sorted(part["machine"].items()))
        models, seconds = kinds.get(line, (0, 0.0))
        kinds[line] = models + len(part["models"]), seconds + part["seconds"]
    return [
        f"{line} ({plural(models, 'target model')}, {seconds:,.0f} s)"
        for line, (models, seconds) in sorted(kinds.items())
    ]


def _git_state() -> str:
    """Commit of the code, where it runs from a git checkout."""
    git = shutil.which("git")
    if git is None:
        return "not known (no git)"

    def ask(*words: str) -> str:
        answer = subprocess.run(
            [git, "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else ""

    commit = ask("rev-parse", "HEAD")
    if not commit:
        return "not a git checkout"
    return f"commit {commit}" + (
        " with uncommitted changes" if ask("status", "--porcelain", "--untracked-files=no") else ""
    )
