"""One audited experiment as the report needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from tailrisk.compare.capacity import mean_performance
from tailrisk.config.plan import GIVEN_QUERY
from tailrisk.config.study import Experiment
from tailrisk.report.text import plural
from tailrisk.tables import metadata, opened, read_json, read_table

# A target model this far below a plain scikit-learn baseline is more likely broken than private.
MUCH_WORSE = 0.05


@dataclass(frozen=True)
class Files:
    """Where the finished tables of one experiment lie."""

    audit: Path
    """Folder with summary.json and the audit's tables (results/audit/E/Q)."""
    performance: Path | None
    """None for a confidence table from elsewhere."""
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
    """An experiment with its summary, the usefulness of its models and the groups in its tail.

    Capacity and performance are None for a confidence table from elsewhere.
    """

    experiment: Experiment
    label: str
    simulated: bool
    summary: dict[str, Any]
    capacity: int | None
    metric: str | None
    performance: float | None
    performance_sd: float | None
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

    def tests(self, unit: str, within: str) -> pd.DataFrame:
        """Rows of the subgroup table of one unit ("record" or "patient") and stratifying variable ("" for none)."""
        table = self.subgroups
        return table[(table["unit"] == unit) & (table["within"] == within)]

    def further_tests(self) -> list[dict[str, Any]]:
        """The most over-represented group of each test but those of all records."""
        table = self.subgroups[(self.subgroups["unit"] != "record") | (self.subgroups["within"] != "")]
        excess = table["tail_n"] - table["tail_expected_clustered"]
        order = table.assign(excess=excess / np.sqrt(table["tail_expected_clustered"].clip(lower=1e-9)))
        top = order.sort_values("excess", ascending=False).drop_duplicates(["variable", "unit", "within"])
        movable = pd.DataFrame(self.summary["subgroups_movable"], columns=["variable", "unit", "within", "share"])
        movable = movable.rename(columns={"share": "movable"})
        rows = top.astype({"variable": str, "unit": str, "within": str}).merge(movable, how="left")
        return rows.sort_values(["within", "unit", "variable"]).to_dict("records")

    def skipped(self) -> list[str]:
        """One sentence for every variable that was not compared."""
        found = []
        for item in self.summary["subgroups_skipped"]:
            where = f" within equal '{item['within']}'" if item["within"] else ""
            of = f" among {item['unit']}s" if item["unit"] else ""
            found.append(f"{item['variable']} was not compared{of}{where}: {item['reason']}.")
        return found

    @property
    def left_out(self) -> int:
        """Target models that are missing because they or their partner failed."""
        return self.experiment.n_models - int(self.summary["models"])

    @property
    def shortfall(self) -> float:
        """By how much the target models are worse than the baseline in the same metric; 0 where there is none."""
        if self.baseline is None or self.performance is None or self.baseline["metric"] != self.metric:
            return 0.0
        return float(self.baseline["value"]) - self.performance

    @property
    def much_worse(self) -> bool:
        """Whether the target models are much worse than the baseline."""
        return self.shortfall > MUCH_WORSE

    @property
    def too_few_models(self) -> bool:
        """Whether even a perfectly recognised patient could not pass the false discovery rate alone."""
        least = self.summary["smallest_p"]
        return least is not None and bool(least > self.summary["fdr"] / self.summary["patients"])

    @property
    def trained(self) -> str:
        """The number of target models in words: pairs where they came in pairs."""
        if self.summary["design"] == "complementary":
            return f"{plural(int(self.summary['pairs']), 'pair')} of target models"
        return plural(int(self.summary["models"]), "target model")

    @property
    def has_p_values(self) -> bool:
        """Whether chance is known: not where it is unknown how members were drawn."""
        return bool(self.summary["design"] != "unknown")


def load(
    experiment: Experiment, files: Files, dataset: Path, card: Mapping[str, Any], simulated: bool, label: str
) -> Audited:
    """Read one experiment. dataset: folder of the prepared dataset, with baseline.json and records.parquet."""
    assert files.performance is not None
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


def load_given(name: str, files: Files, label: str) -> Audited:
    """Read the audit of the confidence table from elsewhere that the study calls `name`."""
    summary = read_json(files.audit / "summary.json")
    return Audited(
        experiment=Experiment(name, name, name, "given", int(summary["models"]), "", [GIVEN_QUERY], ""),
        label=label,
        simulated=False,
        summary=summary,
        capacity=None,
        metric=None,
        performance=None,
        performance_sd=None,
        baseline=None,
        subgroups=read_table(files.audit / "subgroups.parquet", "audit_subgroups"),
        failed={},
        retried=[],
        controls=None,
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
