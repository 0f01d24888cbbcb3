"""Exposed patients against the number of trainable parameters (DESIGN §6, Capacity)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tailrisk.errors import UserError
from tailrisk.tables import metadata, read_json, read_table, write_table

COLUMNS = (
    "experiment",
    "model",
    "capacity",
    "metric",
    "performance",
    "performance_sd",
    "threshold",
    "patients",
    "n",
    "share",
    "low",
    "high",
    "expected_by_chance",
    "vulnerable",
    "certain",
    "debiased",
)


def mean_performance(performance: pd.DataFrame, split: str = "test") -> tuple[str, float, float]:
    """(metric, mean, standard deviation) over the target models on one split, of the first metric by name.

    performance: the columns `model, split, metric, value`. Raises UserError if the split has no value.
    """
    rows = performance[(performance["split"].astype(str) == split) & performance["value"].notna()]
    if rows.empty:
        raise UserError(f"The performance table has no value for the split '{split}'. Run the gather stage again.")
    metric = min(rows["metric"].astype(str))
    values = rows.loc[rows["metric"].astype(str) == metric, "value"].astype(float)
    return metric, float(values.mean()), float(values.std(ddof=1))


def capacity_table(audits: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per experiment and AUC threshold, sorted by capacity and threshold, with the columns COLUMNS.

    audits: mappings with `experiment`, `model` (names), `capacity` (trainable parameters), `summary` (the audit's
    summary) and `performance` (table). `patients`, `expected_by_chance`, `vulnerable`, `certain` and `debiased` count
    patients out of `n`; `share`, `low`, `high` are the share with AUC ≥ threshold and its 95 % interval.
    """
    rows = []
    for audit in audits:
        metric, mean, sd = mean_performance(audit["performance"])
        for threshold in audit["summary"]["thresholds"]:
            rows.append(
                {
                    "experiment": audit["experiment"],
                    "model": audit["model"],
                    "capacity": int(audit["capacity"]),
                    "metric": metric,
                    "performance": mean,
                    "performance_sd": sd,
                    "n": audit["summary"]["patients"],
                    "threshold": threshold["auc"],
                    **{key: value for key, value in threshold.items() if key in COLUMNS},
                }
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["capacity", "experiment", "threshold"], ignore_index=True)


def write_capacity(audits: Mapping[str, Path], performances: Mapping[str, Path], table: Path) -> None:
    """Read finished audits and write their capacity table.

    audits: experiment `<entry>.<dataset>.<model>` → folder of its audit (results/audit/E/Q); performances:
    experiment → results/performance/E.parquet, whose metadata holds the capacity.
    """
    rows = capacity_table(
        [
            {
                "experiment": experiment,
                "model": experiment.split(".")[2],
                "capacity": metadata(performances[experiment], "performance")["capacity"],
                "summary": read_json(folder / "summary.json"),
                "performance": read_table(performances[experiment], "performance"),
            }
            for experiment, folder in audits.items()
        ]
    )
    write_table(table, "capacity", rows)
