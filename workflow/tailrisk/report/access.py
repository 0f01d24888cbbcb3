"""What the report says about the queries of one experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrisk.config.study import Experiment, Study
from tailrisk.figures.queries import in_words
from tailrisk.report.text import plural
from tailrisk.tables import read_table


@dataclass(frozen=True)
class AccessFiles:
    """Where the finished comparison of an experiment's queries lies."""

    table: Path
    """results/compare/access/E.parquet."""
    figures: Path
    """Folder that `figures.write.write_access_figures` filled."""


@dataclass(frozen=True)
class Asked:
    """One query by name and in words, with its rows of the access table by AUC threshold."""

    name: str
    words: str
    at: Mapping[float, Mapping[str, Any]]
    aggregate_auc: float
    rank_correlation: float


@dataclass(frozen=True)
class Access:
    """The queries of one experiment, full access first, and its figures as SVG text, by name."""

    name: str
    label: str
    patients: int
    queries: list[Asked]
    sentences: list[str]
    open: bool
    figures: dict[str, str]


def load_access(
    study: Study,
    experiment: Experiment,
    table: Path,
    input_shape: Sequence[int],
    label: str,
    unfolded: bool,
    figures: dict[str, str],
) -> Access:
    """Read the access table of one experiment. input_shape: that of one record; label: the experiment for people."""
    rows = read_table(table, "access")
    queries = []
    for name in experiment.queries:
        at = {row["threshold"]: row for row in rows[rows["query"] == name].to_dict("records")}
        one = next(iter(at.values()))
        words = in_words(study.queries[name], input_shape)
        queries.append(Asked(name, words, at, one["aggregate_auc"], one["rank_correlation"]))
    return Access(
        name=experiment.name,
        label=label,
        patients=int(rows["n"].iloc[0]),
        queries=queries,
        sentences=sentences(queries, study.report.threshold),
        open=unfolded,
        figures=figures,
    )


def sentences(queries: Sequence[Asked], threshold: float) -> list[str]:
    """One sentence per query after the first: how many of the vulnerable patients it leaves vulnerable.

    At `threshold`, or where full access makes nobody vulnerable there, at the highest one below where it does.
    """
    full, *others = queries
    reached = [t for t, row in full.at.items() if t <= threshold and row["vulnerable"]]
    if not reached:
        lowest = min(full.at)
        return [
            f"No patient is vulnerable at an attack AUC of {lowest:g} or more with {full.words}; "
            f"{plural(query.at[lowest]['vulnerable'], 'patient')} {_are(query.at[lowest]['vulnerable'])} with "
            f"{query.words}."
            for query in others
        ]
    t = max(reached)
    n = full.at[t]["vulnerable"]
    found = []
    for query in others:
        still, new = query.at[t]["still_vulnerable"], query.at[t]["newly_vulnerable"]
        some = "all" if still == n > 1 else "none" if still == 0 else f"{still:,}"
        added = f", and {new:,} {'other becomes' if new == 1 else 'others become'} vulnerable" if new else ""
        found.append(
            f"{plural(n, 'patient')} {_are(n)} vulnerable at an attack AUC of {t:g} or more with {full.words}; {some} "
            f"of these {'remains' if still == 1 else 'remain'} so with {query.words}{added}."
        )
    return found


def _are(n: int) -> str:
    return "are" if n > 1 else "is"
