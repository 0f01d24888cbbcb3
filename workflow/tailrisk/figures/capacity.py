"""Exposed patients and usefulness against the number of trainable parameters, and who becomes vulnerable."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tailrisk.figures import style
from tailrisk.figures.subgroups import p_text

METRICS = {"auroc": "AUROC", "macro_auroc": "macro AUROC", "accuracy": "accuracy"}

CHANGES = (
    ("still_vulnerable", "vulnerable in both", style.GREY, 1),
    ("newly_vulnerable", "newly vulnerable", style.VERMILLION, 1),
    ("no_longer_vulnerable", "no longer vulnerable", style.SKY, -1),
)


def _draw_exposed(ax: Axes, table: pd.DataFrame) -> None:
    floor = style.share_axis(ax, int(table["n"].max()))
    thresholds = sorted(table["threshold"].unique())
    for i, (threshold, colour, marker) in enumerate(zip(thresholds, style.CYCLE, style.MARKERS, strict=False)):
        rows = table[table["threshold"] == threshold].sort_values("capacity")
        # A small sideways step keeps the intervals of the thresholds apart.
        x = rows["capacity"].to_numpy() * 1.06 ** (i - (len(thresholds) - 1) / 2)
        share = rows["share"].to_numpy()
        shown = np.maximum(share, floor * 1.15)
        low, high = np.maximum(rows["low"].to_numpy(), floor / 10), rows["high"].to_numpy()
        ax.vlines(x, np.minimum(low, shown), np.maximum(high, shown), color=colour, linewidth=1, alpha=0.7)
        ax.plot(x, shown, color=colour, linewidth=1.2)
        ax.plot([], [], color=colour, linewidth=1.2, marker=marker, markersize=5, label=f"AUC ≥ {threshold:g}")
        for empty in (False, True):
            chosen = (share == 0) == empty
            ax.plot(
                x[chosen],
                shown[chosen],
                marker,
                color=colour,
                markersize=5,
                markerfacecolor="white" if empty else colour,
                clip_on=False,
                zorder=4,
            )
        chance = rows["expected_by_chance"].to_numpy(dtype=float) / rows["n"].to_numpy()
        ax.plot(x, style.visible(chance, floor), color=colour, linestyle="--", linewidth=0.9)
    ax.set_ylim(floor, min(1.3, 3 * float(table["high"].max())))
    ax.set_ylabel("share of patients with AUC ≥ t")


def _draw_performance(ax: Axes, table: pd.DataFrame) -> None:
    rows = table.drop_duplicates("experiment").sort_values("capacity")
    ax.errorbar(
        rows["capacity"],
        rows["performance"],
        yerr=rows["performance_sd"].fillna(0),
        color=style.BLACK,
        marker="o",
        markersize=4,
        capsize=2,
        linewidth=1.2,
    )
    metric = str(rows["metric"].iloc[0])
    ax.set_ylabel(f"test {METRICS.get(metric, metric)} (mean ± sd)")
    for row in rows.itertuples():
        ax.text(
            float(row.capacity),
            0.02,
            str(row.model),
            transform=ax.get_xaxis_transform(),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=7.5,
        )
    low, high = ax.get_ylim()
    ax.set_ylim(low - 0.6 * (high - low), high)  # room for the names of the models


@style.styled
def capacity(table: pd.DataFrame) -> Figure:
    """Share of patients at each AUC threshold, chance level (dashed) and test performance against capacity.

    table: the columns of `compare.capacity.capacity_table`, of one dataset. A hollow marker at the lower edge is a
    count of zero.
    """
    figure = Figure(figsize=(style.WIDTH, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_exposed(left, table)
    _draw_performance(right, table)
    left.set_title("a  Exposed patients")
    right.set_title("b  Usefulness")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xlim(table["capacity"].min() / 1.6, table["capacity"].max() * 1.6)
        ax.set_xlabel("trainable parameters")
    handles, labels = left.get_legend_handles_labels()
    dashed = left.plot([], [], color=style.GREY, linestyle="--", linewidth=0.9)[0]
    none = left.plot([], [], "o", color=style.GREY, markerfacecolor="white")[0]
    figure.legend(
        [*handles, dashed, none],
        [*labels, "expected by chance", "no patient"],
        loc="outside lower center",
        ncols=6,
        columnspacing=1.2,
    )
    return figure


@style.styled
def changes(table: pd.DataFrame) -> Figure:
    """Who is vulnerable in each model beside the next smaller one, on the same patients; one panel per AUC threshold.

    table: the columns of `compare.capacity.capacity_table`, of one dataset with two models or more.
    """
    thresholds = sorted(table["threshold"].unique())
    models = table.drop_duplicates("experiment")["model"].tolist()[1:]
    figure = Figure(figsize=(style.WIDTH, 1.9 + 0.19 * len(models)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(thresholds), sharey=True))
    for ax, threshold in zip(panels, thresholds, strict=True):
        rows = table[table["threshold"] == threshold].iloc[1:]
        _draw_changes(ax, rows)
        ax.set_title(f"AUC ≥ {threshold:g}")
    panels[0].set_yticks(range(len(models)), models)
    panels[0].invert_yaxis()
    figure.supxlabel("vulnerable patients, against the next smaller model (McNemar's p at the right)", fontsize=9)
    figure.legend(loc="outside upper center", ncols=3, handles=panels[0].containers)
    return figure


def _draw_changes(ax: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))
    left = np.zeros(len(rows))
    for column, label, colour, side in CHANGES:
        count = rows[column].to_numpy(dtype=float)
        ax.barh(y, side * count, left=left if side > 0 else 0, height=0.6, color=colour, label=label)
        left += count if side > 0 else 0
    reach = max(1.0, float(left.max()), float(rows["no_longer_vulnerable"].max()))
    ax.axvline(0, color=style.BLACK, linewidth=0.7)
    ax.set_xlim(-max(0.15 * reach, 1.1 * float(rows["no_longer_vulnerable"].max())), 1.75 * reach)
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):,.0f}"))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    for position, row in enumerate(rows.itertuples()):
        ax.text(1.0, position, p_text(row.mcnemar_p), transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize=7.5)  # fmt: skip
