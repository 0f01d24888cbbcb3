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

MAIN = "lira_online"
ATTACKS = {
    MAIN: "LiRA online",
    "lira_offline": "LiRA offline",
    "rmia_online": "RMIA online",
    "rmia_offline": "RMIA offline",
    "attack_r": "attack-R",
    "loss": "loss threshold",
}
"""The attacks that are drawn: the best known form of each idea. All others are in the table."""
_LINES = {
    MAIN: (style.BLUE, "-"),
    "lira_offline": (style.BLUE, "--"),
    "rmia_online": (style.VERMILLION, "-"),
    "rmia_offline": (style.VERMILLION, "--"),
    "attack_r": (style.GREEN, "-"),
    "loss": (style.PURPLE, "-."),
}
_FLOOR = 1e-5


def draw_roc(ax: Axes, aggregate: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Draw the mean TPR over target models at each FPR on log-log axes: LiRA online with a band of one sd, others thin.

    A thin curve ends at the lowest FPR that its scores resolve.
    """
    for attack, name in ATTACKS.items():
        table = aggregate[aggregate["attack"] == attack]
        figures = summary["aggregate"].get(attack)
        if table.empty or figures is None:
            continue
        colour, dashes = _LINES[attack]
        by_fpr = table.groupby("fpr")["tpr"]
        mean, label = by_fpr.mean(), f"{name}, AUC {figures['auc']:.3f}"
        fpr = mean.index.to_numpy()
        if attack == MAIN:
            sd = by_fpr.std(ddof=1).fillna(0)
            low, high = (style.visible(np.clip(mean + sign * sd, 0, 1), _FLOOR) for sign in (-1, 1))
            ax.fill_between(fpr, low, high, color=colour, alpha=0.2, linewidth=0)
            ax.plot(fpr, style.visible(mean, _FLOOR), color=colour, label=label, zorder=3)
        else:
            drawn = fpr >= figures["finest_fpr"]
            ax.plot(
                fpr[drawn],
                style.visible(mean[drawn], _FLOOR),
                color=colour,
                linestyle=dashes,
                linewidth=0.9,
                label=label,
            )
    ax.plot([_FLOOR, 1], [_FLOOR, 1], color=style.GREY, linestyle=":", linewidth=1, label="guessing")
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
