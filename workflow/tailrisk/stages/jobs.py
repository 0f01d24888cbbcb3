"""The jobs of a study as the workflow plans them, and where each leaves its result and its log."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailrisk.config.plan import Plan


@dataclass(frozen=True)
class Job:
    """A job: its rule, what it is about, the file that it writes last, its log, and what is kept of how it ran."""

    rule: str
    about: str
    output: Path
    log: Path
    provenance: Path

    def __str__(self) -> str:
        return f"{self.rule} {self.about}".strip()


def planned(plan: Plan, results: Path) -> list[Job]:
    """All jobs behind the report of a study, in the order of the stages."""
    return [
        Job(
            rule=rule,
            about=about,
            output=results / output,
            log=results / "logs" / log,
            provenance=(results / "provenance" / log).with_suffix(".json"),
        )
        for rule, about, output, log in _planned(plan)
    ]


def _planned(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """Of each job the rule, what it is about, output and log."""
    for name in plan.datasets:
        for rule, file in {
            "prepare": "card.json",
            "groups": "groups.parquet",
            "duplicates": "duplicates.json",
            "baseline": "baseline.json",
        }.items():
            yield rule, name, f"datasets/{name}/{file}", f"{rule}/{name}.log"
    for name, experiment in plan.experiments.items():
        for chunk in plan.chunks(name):
            yield "train", f"{name} {chunk}", f"targets/{name}/{chunk}.parquet", f"train/{name}/{chunk}.log"
        yield "performance", name, f"performance/{name}.parquet", f"performance/{name}.log"
        for query in experiment.queries:
            place = f"{name}/{query}"
            yield "gather", f"{name} {query}", f"confidences/{place}.parquet", f"gather/{place}.log"
    for name in plan.study.given:
        yield "given", name, f"given/{name}/groups.parquet", f"given/{name}.log"
    for place in plan.for_each_query("{experiment}/{query}"):
        about = place.replace("/", " ")
        yield "audit", about, f"audit/{place}/summary.json", f"audit/{place}.log"
        yield "audit_figures", about, f"figures/{place}/subgroups.png", f"figures/{place}.log"
    yield from _compared(plan)
    for name in plan.shown:
        yield "dataset_figures", name, f"figures/datasets/{name}/inputs.png", f"figures/datasets/{name}.log"
    yield "report", "", "headlines.json", "report.log"


def _compared(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """The same of the jobs across experiments."""
    for comparison in plan.comparisons:
        for query in plan.comparison_queries(comparison):
            place, about = f"compare/{{}}{comparison}.{query}", f"{comparison} {query}"
            table = place.format("capacity/")
            yield "capacity", about, f"{table}.parquet", f"{table}.log"
            figure = place.format("")
            yield "comparison_figures", about, f"figures/{figure}/survival_overlay.png", f"figures/{figure}.log"
    for name in plan.access:
        place = f"compare/access/{name}"
        yield "access", name, f"{place}.parquet", f"{place}.log"
        yield "access_figures", name, f"figures/{place}/access.png", f"figures/{place}.log"
    for name in plan.stability:
        yield "stability", name, f"compare/stability/{name}.parquet", f"compare/stability/{name}.log"
    if plan.grouped:
        yield "groups_across_datasets", "", "compare/groups/meta.parquet", "compare/groups.log"
        yield "group_figures", "", "figures/compare/groups/meta.png", "figures/compare/groups.log"
