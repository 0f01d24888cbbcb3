"""ROC curve of the aggregate attack, and the figure that sets it beside the patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tailrisk.figures import style
from tailrisk.figures.survival import draw_survival

ATTACKS = {"lira_online": "LiRA (online)"}
_FLOOR = 1e-5


def draw_roc(ax: Axes, aggregate: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Draw each attack's ROC on log-log axes: mean TPR over target models at each FPR, band of one sd, chance."""
    for colour, (attack, table) in zip(
        style.CYCLE, aggregate.groupby("attack", observed=True, sort=True), strict=False
    ):
        by_fpr = table.groupby("fpr")["tpr"]
        mean, sd = by_fpr.mean(), by_fpr.std(ddof=1).fillna(0)
        fpr = mean.index.to_numpy()
        figures = summary["aggregate"].get(attack)
        auc = "" if figures is None else f", AUC {figures['auc']:.3f}"
        ax.fill_between(
            fpr,
            np.maximum(mean - sd, _FLOOR / 10),
            np.clip(mean + sd, _FLOOR / 10, 1),
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        ax.plot(
            fpr,
            np.maximum(mean, _FLOOR / 10),
            color=colour,
            label=f"{ATTACKS.get(str(attack), str(attack))}{auc}",
        )
    ax.plot([_FLOOR, 1], [_FLOOR, 1], color=style.GREY, linestyle="--", label="guessing")
    # About half of the records are non-members of a target: one false positive is the smallest rate above zero.
    resolution = 2 / max(int(summary["records"]), 2)
    lowest = max(_FLOOR, 10 ** np.floor(np.log10(resolution)))
    if resolution > lowest:
        ax.axvspan(lowest, resolution, color=style.GREY, alpha=0.12, linewidth=0, label="no false positive")
    ax.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1.3))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda rate, _: style.percent(rate)))
    ax.set_xlabel("false-positive rate")
    ax.set_ylabel("true-positive rate")
    style.legend_below(ax)


@style.styled
def aggregate_versus_patients(aggregate: pd.DataFrame, survival: pd.DataFrame, summary: Mapping[str, Any]) -> Figure:
    """The aggregate ROC beside the survival curve of the same audit: an average can hide exposed patients."""
    figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    draw_roc(left, aggregate, summary)
    left.set_title("a  All records together")
    draw_survival(right, survival, summary)
    right.set_title("b  Patient by patient")
    right.set_xlabel("attack AUC t of a patient")
    return figure
