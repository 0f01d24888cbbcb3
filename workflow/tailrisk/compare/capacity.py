"""Exposed patients against the number of trainable parameters (DESIGN §6, Capacity)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS, metadata, read_json, read_table, write_table

COLUMNS = tuple(SCHEMAS["capacity"].names)
PAIRED = ("still_vulnerable", "newly_vulnerable", "no_longer_vulnerable")


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
    summary), `patients` and `performance` (tables). `patients`, `expected_by_chance`, `vulnerable`, `certain` and
    `debiased` count patients out of `n`; `share`, `low`, `high` are the share with AUC ≥ threshold and its 95 %
    interval. On the same patients, against the next smaller model: `still_vulnerable` of its vulnerable patients are
    so in this one, `newly_vulnerable` in this one alone, `no_longer_vulnerable` in the smaller one alone; `mcnemar_p`
    is McNemar's exact p, two-sided, that as many patients come as go. All four are NaN for the smallest model.
    UserError where the audits are of different patients.
    """
    rows = []
    before = None
    for audit in sorted(audits, key=lambda audit: (int(audit["capacity"]), audit["experiment"])):
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
                    **(_changes(before, audit, threshold["auc"]) if before else {}),
                }
            )
        before = audit
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values(["capacity", "experiment", "threshold"], ignore_index=True)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], threshold: float) -> dict[str, int | float]:
    """Who is vulnerable at the threshold in two audits of the same patients."""
    was, is_ = (_vulnerable(audit, threshold) for audit in (before, now))
    others = was.index.symmetric_difference(is_.index)
    if len(others):
        raise UserError(
            f"the audits of '{before['experiment']}' and '{now['experiment']}' are not of the same patients "
            f"({len(others):,} are in one of them alone): delete both and run again"
        )
    is_ = is_.loc[was.index]
    new, gone = int((is_ & ~was).sum()), int((was & ~is_).sum())
    p = binomtest(new, new + gone).pvalue if new + gone else 1.0
    return dict(zip(PAIRED, (int((was & is_).sum()), new, gone), strict=True)) | {"mcnemar_p": float(p)}


def _vulnerable(audit: Mapping[str, Any], threshold: float) -> pd.Series:
    patients = audit["patients"].set_index("patient")
    return (patients["q_value"] <= audit["summary"]["fdr"]) & (patients["auc"] >= threshold)


def write_capacity(audits: Mapping[str, Path], performances: Mapping[str, Path], table: Path) -> None:
    """Read finished audits and write their capacity table.

    audits: experiment `<entry>.<dataset>.<model>` → folder of its audit (results/audit/E/Q); performances:
    experiment → results/performance/E.parquet, whose metadata holds the capacity. A model that occurs on several
    datasets, such as images of two sizes, is called with its dataset.
    """
    models = Counter(experiment.split(".")[2] for experiment in audits)
    rows = capacity_table(
        [
            {
                "experiment": experiment,
                "model": _called(experiment, models),
                "capacity": metadata(performances[experiment], "performance")["capacity"],
                "summary": read_json(folder / "summary.json"),
                "patients": read_table(folder / "patients.parquet", "audit_patients", ["patient", "auc", "q_value"]),
                "performance": read_table(performances[experiment], "performance"),
            }
            for experiment, folder in audits.items()
        ]
    )
    write_table(table, "capacity", rows)


def _called(experiment: str, models: Counter[str]) -> str:
    _, dataset, model = experiment.split(".")
    return model if models[model] == 1 else f"{model} ({dataset})"
