"""Capacity comparison: numbers come unchanged from the summaries, in the right order."""

import numpy as np
import pandas as pd
import pytest
from audited_study import CAPACITIES, THRESHOLDS, finished

from tailrisk.compare.capacity import capacity_table, mean_performance
from tailrisk.errors import UserError
from tailrisk.tables import read_json, read_table


def performance(*values: float, split: str = "test") -> pd.DataFrame:
    return pd.DataFrame(
        {"model": np.arange(len(values), dtype=np.int16), "split": split, "metric": "auroc", "value": values}
    )


def test_table_repeats_the_summaries_sorted_by_capacity_and_threshold() -> None:
    study = finished()
    table = read_table(study.capacity, "capacity")
    assert table["model"].tolist() == [model for model in CAPACITIES for _ in THRESHOLDS]
    assert table["threshold"].tolist() == THRESHOLDS * len(CAPACITIES)
    assert table["capacity"].tolist() == [capacity for capacity in CAPACITIES.values() for _ in THRESHOLDS]
    for row in table.to_dict("records"):
        summary = read_json(study.files[row["experiment"]].audit / "summary.json")
        expected = next(t for t in summary["thresholds"] if t["auc"] == row["threshold"])
        assert row["n"] == summary["patients"]
        for key in ("patients", "share", "low", "high", "expected_by_chance", "vulnerable", "certain", "debiased"):
            assert row[key] == expected[key]
    assert table["patients"].max() >= 10  # the planted leak is there, so the comparison compares something


def test_order_does_not_depend_on_the_order_of_the_audits() -> None:
    audits = [
        {
            "experiment": f"main.d.{model}",
            "model": model,
            "capacity": capacity,
            "performance": performance(0.7, 0.8),
            "patients": pd.DataFrame({"patient": ["p"], "auc": [0.9], "q_value": [0.01]}),
            "summary": {"patients": 10, "fdr": 0.05, "thresholds": [{"auc": 0.8, "patients": 1, "share": 0.1}]},
        }
        for model, capacity in (("b", 10), ("a", 10), ("c", 5))
    ]
    table = capacity_table(audits)
    assert table["model"].tolist() == ["c", "a", "b"]
    pd.testing.assert_frame_equal(table, capacity_table(audits[::-1]))


def test_performance_is_of_the_test_split_and_skips_missing_values() -> None:
    table = pd.concat([performance(0.7, 0.9, np.nan), performance(0.1, 0.1, split="validation")])
    assert mean_performance(table) == ("auroc", pytest.approx(0.8), pytest.approx(np.std([0.7, 0.9], ddof=1)))


def test_no_test_performance_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no value for the split 'test'.*gather"):
        mean_performance(performance(0.7, split="validation"))
