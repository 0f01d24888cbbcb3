"""One audited experiment as the report needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binom

from tailrisk.compare.capacity import mean_performance
from tailrisk.config.study import Experiment
from tailrisk.tables import metadata, opened, read_json, read_table

# A target model this far below a plain scikit-learn baseline is more likely broken than private.
MUCH_WORSE = 0.05


@dataclass(frozen=True)
class Files:
    """Where the finished tables of one experiment lie."""

    audit: Path
    """Folder with summary.json and the audit's tables (results/audit/E/Q)."""
    performance: Path
    figures: Path
    """Folder that `figures.write.write_audit_figures` filled."""


@dataclass(frozen=True)
class Controls:
    """Audited patients that no model was trained on, so that their risk is none: a check of the calibration."""

    patients: int
    small_p: int
    """p ≤ 0.05; one in twenty is expected."""
    significant: int
    """q ≤ the study's false discovery rate."""

    @property
    def too_many(self) -> bool:
        """Whether so many small p-values would be rarer than one in a thousand under a valid calibration."""
        return bool(binom.sf(self.small_p - 1, self.patients, 0.05) < 0.001)


@dataclass(frozen=True)
class Audited:
    """An experiment with its summary, the usefulness of its models and the groups in its tail."""

    experiment: Experiment
    label: str
    simulated: bool
    summary: dict[str, Any]
    capacity: int
    metric: str
    performance: float
    performance_sd: float
    baseline: dict[str, Any] | None
    subgroups: pd.DataFrame
    failed: dict[str, str]
    """Reasons why target models failed, by model number."""
    retried: list[int]
    """Target models that were trained once more, at a lower learning rate than the others."""
    controls: Controls | None

    def at(self, threshold: float) -> dict[str, Any]:
        """Counts of patients at one AUC threshold (an entry of the summary's `thresholds`)."""
        return next(row for row in self.summary["thresholds"] if row["auc"] == threshold)

    @property
    def left_out(self) -> int:
        """Target models that are missing because they or their partner failed."""
        return self.experiment.n_models - int(self.summary["models"])

    @property
    def much_worse(self) -> bool:
        """Whether the target models are much worse than the baseline in the same metric."""
        return (
            self.baseline is not None
            and self.baseline["metric"] == self.metric
            and self.performance < self.baseline["value"] - MUCH_WORSE
        )

    @property
    def too_few_models(self) -> bool:
        """Whether even a perfectly recognised patient could not pass the false discovery rate alone."""
        return bool(2.0 ** -self.summary["pairs"] > self.summary["fdr"] / self.summary["patients"])


def load(
    experiment: Experiment, files: Files, dataset: Path, card: Mapping[str, Any], simulated: bool, label: str
) -> Audited:
    """Read one experiment. dataset: folder of the prepared dataset, with baseline.json and records.parquet."""
    summary = read_json(files.audit / "summary.json")
    metric, mean, sd = mean_performance(read_table(files.performance, "performance"))
    stamp = metadata(files.performance, "performance")
    baseline = dataset / "baseline.json"
    return Audited(
        experiment=experiment,
        label=label,
        simulated=simulated,
        summary=summary,
        capacity=int(stamp["capacity"]),
        metric=metric,
        performance=mean,
        performance_sd=sd,
        baseline=read_json(baseline) if baseline.exists() else None,
        subgroups=read_table(files.audit / "subgroups.parquet", "audit_subgroups"),
        failed={str(model): str(reason) for model, reason in stamp.get("failed", {}).items()},
        retried=list(stamp.get("retried", [])),
        controls=_controls(files.audit, dataset, float(summary["fdr"])) if card.get("controls") else None,
    )


def _controls(audit: Path, dataset: Path, fdr: float) -> Controls | None:
    with opened(dataset / "records.parquet", "records") as file:
        if "control" not in file.schema_arrow.names:
            return None
        records = file.read(columns=["patient", "control"]).to_pandas()
    controls = set(records.loc[records["control"], "patient"])
    patients = read_table(audit / "patients.parquet", "audit_patients", ["patient", "p_value", "q_value"])
    chosen = patients[patients["patient"].isin(controls)]
    return Controls(len(chosen), int((chosen["p_value"] <= 0.05).sum()), int((chosen["q_value"] <= fdr).sum()))
