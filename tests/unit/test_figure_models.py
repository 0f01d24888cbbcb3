"""The figure of fewer models, and what the survival figures do where a curve is missing."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from paired_scores import table

from tailrisk.audit.convergence import convergence_table
from tailrisk.audit.survival import AUC_GRID
from tailrisk.figures.models import AIM, models
from tailrisk.figures.survival import draw_survival, survival_overlay


@pytest.fixture(scope="module")
def fewer():
    rng = np.random.default_rng(0)
    return convergence_table(*table(30, [1] * 400, rng, rng.exponential(0.6, 400)), paired=True, seed=0)


def curves(debiased, null):
    """A survival table of one level whose debiased and null curves are given."""
    survival = np.linspace(1, 0, AUC_GRID.size) ** 3
    return pd.DataFrame(
        {"level": "patient_max", "auc": AUC_GRID, "survival": survival, "low": 0.8 * survival,
         "high": np.minimum(1.2 * survival, 1), "null": null, "debiased": debiased}
    )  # fmt: skip


SUMMARY = {"patients": 1000, "thresholds": [{"auc": 0.8, "patients": 8}]}


def labels(ax):
    return [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]


def test_models_figure_shows_the_errors_and_one_curve_a_number_of_models(fewer):
    left, right = models(fewer, 400).axes[:2]
    for quantity, label in (("se_all", "all records"), ("se_tail", "the 1 %")):
        drawn = next(line for line in left.lines if line.get_label().startswith(label))
        rows = fewer[fewer["quantity"] == quantity]
        np.testing.assert_array_equal(drawn.get_xdata(), [20, 50, 60])
        np.testing.assert_array_equal(drawn.get_ydata(), rows["value"])
    assert any(np.array_equal(line.get_ydata(), [AIM, AIM]) for line in left.lines)
    assert left.get_ylim()[1] > fewer.loc[fewer["quantity"] == "se_all", "high"].max()
    assert labels(right) == ["20 models", "50 models", "60 models"]
    for line, size in zip(right.lines, (20, 50, 60), strict=True):
        rows = fewer[(fewer["quantity"] == "survival") & (fewer["n_models"] == size)]
        shown = rows["value"].to_numpy() > 1 / 800
        np.testing.assert_array_equal(line.get_xdata(), rows["auc"])
        np.testing.assert_allclose(line.get_ydata()[shown], rows["value"][shown])


def test_models_figure_of_few_models_has_one_point():
    rng = np.random.default_rng(1)
    few = convergence_table(*table(4, [1] * 50, rng), paired=True, seed=0)
    left, right = models(few, 50).axes[:2]
    assert [len(line.get_xdata()) for line in left.lines if line.get_label().startswith("all")] == [1]
    assert labels(right) == ["8 models"]


def test_debiased_curve_is_drawn_where_it_holds_and_not_mentioned_where_it_never_does():
    holds = (AUC_GRID >= 0.62) & (AUC_GRID <= 0.99)
    ax = Figure().subplots()
    draw_survival(ax, curves(np.where(holds, 0.1, np.nan), np.full(AUC_GRID.size, 0.5)), SUMMARY)
    drawn = next(line for line in ax.lines if line.get_label() == "debiased")
    np.testing.assert_array_equal(np.isfinite(drawn.get_ydata()), holds)
    assert "expected by chance" in labels(ax)
    ax = Figure().subplots()
    draw_survival(ax, curves(np.nan, np.full(AUC_GRID.size, 0.5)), SUMMARY)
    assert "debiased" not in labels(ax)


def test_a_design_without_a_null_has_no_line_of_chance():
    without = curves(np.nan, np.nan)
    ax = Figure().subplots()
    draw_survival(ax, without, SUMMARY)
    assert labels(ax) == ["observed"]
    alone = survival_overlay([("a", without, SUMMARY)]).axes[0]
    assert "expected by chance" not in labels(alone)
    mixed = survival_overlay([("a", without, SUMMARY), ("b", curves(np.nan, 0.5), SUMMARY)]).axes[0]
    assert "expected by chance" in labels(mixed)
