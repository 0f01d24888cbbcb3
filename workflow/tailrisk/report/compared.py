"""What the report says about experiments on the same patients, and about groups over all datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrisk.figures.meta import in_words
from tailrisk.tables import read_table

DIFFERS = {
    "seed": "the seed: other halves, other initial weights",
    "model": "the architecture",
    "recipe": "the recipe",
    "several": "several things",
    "nothing": "nothing",
    "unknown": "not known",
}


@dataclass(frozen=True)
class Stability:
    """The experiments on one dataset in pairs: rows of the stability table at one threshold, with their labels."""

    title: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Groups:
    """Residuals of groups against their shares: the finding in words, and the figure as SVG text."""

    sentences: list[str]
    figure: str


def load_stability(table: Path, title: str, labels: Mapping[str, str], threshold: float) -> Stability:
    """Read one dataset's stability table. labels: experiments for people; threshold: AUC of the vulnerable counts."""
    rows = read_table(table, "stability")
    rows = rows[rows["threshold"] == threshold]
    named = [
        row | {"a": labels[row["experiment_a"]], "b": labels[row["experiment_b"]], "differs": DIFFERS[row["differs"]]}
        for row in rows.to_dict("records")
    ]
    return Stability(title, named)


def load_groups(meta: Path, figure: str) -> Groups:
    """Read the meta-analysis of groups."""
    correlations = read_table(meta, "meta")
    words = in_words(correlations[correlations["correlation"] == "spearman"])
    return Groups(words.splitlines(), figure)
