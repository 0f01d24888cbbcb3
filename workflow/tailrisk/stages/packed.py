"""Which results an artefact holds: what analysis starts from, and what is made of that."""

import json
from itertools import product
from pathlib import Path

from tailrisk.config.load import parse
from tailrisk.config.plan import AUDIT_TABLES, GIVEN_QUERY, Plan
from tailrisk.config.study import Study
from tailrisk.errors import UserError
from tailrisk.figures.dataset import DATASET_FIGURES
from tailrisk.figures.write import ACCESS_FIGURES, AUDIT_FIGURES, COMPARISON_FIGURES, GROUP_FIGURES

ANALYSIS = (
    "audit",
    "capacity",
    "access",
    "stability",
    "groups_across_datasets",
    "audit_figures",
    "comparison_figures",
    "access_figures",
    "group_figures",
    "report",
)
"""Rules that follow the confidence tables and need neither the inputs nor a GPU."""
DESCRIPTION = ("records.parquet", "groups.parquet", "card.json", "baseline.json", "duplicates.json")
UNPACKED = ("inputs.npy", "labels.npy", "excluded.parquet", "duplicates.parquet")
"""What else rules make of a dataset."""
MADE = ("results/audit/", "results/compare/", "results/figures/", "results/report.html", "results/headlines.json")
PICTURES = "results/figures/datasets/"
"""Drawn from the inputs, which no artefact holds."""


def is_made(path: str) -> bool:
    """Whether the ANALYSIS rules make a file of an artefact."""
    return path.startswith(MADE) and not path.startswith(PICTURES)


def packed(plan: Plan) -> list[str]:
    """All results of a study that its artefact holds, in order; neither inputs nor what an earlier study left."""
    return sorted(
        {*_sources(plan), *_audits(plan), *_comparisons(plan), "results/report.html", "results/headlines.json"}
    )


def everything(plan: Plan) -> set[str]:
    """All results of a study: what its artefact holds, and what it must not hold."""
    chunks = {table for name in plan.experiments for table in plan.chunk_tables(name)}
    datasets = {f"results/datasets/{dataset}/{file}" for dataset, file in product(plan.datasets, UNPACKED)}
    return {*packed(plan), *chunks, *datasets}


def reported(results: Path) -> Study | None:
    """The study that the report was last written of; None where its provenance does not tell."""
    try:
        record = json.loads((results / "provenance" / "report.json").read_text(encoding="utf-8"))
        study: Study = parse(Study, record["parameters"]["study"], "the study of the report")
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
    return study


def with_ids(plan: Plan) -> dict[str, str]:
    """The results with ids of records or patients, each with the folder of the records.parquet that has all of them."""
    described = {name: plan.described(name) for name in (*plan.experiments, *plan.study.given)}
    found = {f"{folder}/{table}.parquet": folder for folder in described.values() for table in ("records", "groups")}
    for name, folder in described.items():
        for table in ("records", "patients"):
            found |= dict.fromkeys(_of_queries(plan, name, f"results/audit/{name}/{{query}}/{table}.parquet"), folder)
    return found


def _sources(plan: Plan) -> list[str]:
    """Confidences, performance, and what analysis reads of the datasets."""
    found = plan.for_each_query("results/confidences/{experiment}/{query}.parquet")
    found += [f"results/performance/{name}.parquet" for name in plan.experiments]
    found += [f"results/datasets/{dataset}/{file}" for dataset, file in product(plan.datasets, DESCRIPTION)]
    found += [f"results/given/{name}/{table}.parquet" for name in plan.study.given for table in ("records", "groups")]
    return found + [path for dataset in plan.shown for path in _drawn(f"{PICTURES}{dataset}", DATASET_FIGURES)]


def _audits(plan: Plan) -> list[str]:
    files = [*(f"{table}.parquet" for table in AUDIT_TABLES), "summary.json"]
    found = [path for file in files for path in plan.for_each_query(f"results/audit/{{experiment}}/{{query}}/{file}")]
    for folder in plan.for_each_query("results/figures/{experiment}/{query}"):
        found += _drawn(folder, AUDIT_FIGURES)
    return found


def _comparisons(plan: Plan) -> list[str]:
    found = []
    for comparison in plan.comparisons:
        for query in plan.comparison_queries(comparison):
            found.append(f"results/compare/capacity/{comparison}.{query}.parquet")
            found += _drawn(f"results/figures/compare/{comparison}.{query}", COMPARISON_FIGURES)
    for name in plan.access:
        found.append(f"results/compare/access/{name}.parquet")
        found += _drawn(f"results/figures/compare/access/{name}", ACCESS_FIGURES)
    found += [f"results/compare/stability/{dataset}.parquet" for dataset in plan.stability]
    if plan.grouped:
        found += [f"results/compare/groups/{table}.parquet" for table in ("groups", "meta")]
        found += _drawn("results/figures/compare/groups", GROUP_FIGURES)
    return found


def _of_queries(plan: Plan, name: str, pattern: str) -> list[str]:
    queries = [GIVEN_QUERY] if name in plan.study.given else plan.experiments[name].queries
    return [pattern.format(query=query) for query in queries]


def _drawn(folder: str, figures: tuple[str, ...]) -> list[str]:
    return [f"{folder}/{figure}.{kind}" for figure, kind in product(figures, ("svg", "png"))]
