"""Are small groups more at risk? Residual against share of all groups, beside what chance gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tailrisk.figures import style
from tailrisk.figures.subgroups import LEVEL, SMALL, p_text

BASELINES = {"patients": ("patients permuted", style.GREY), "changes": ("changes shuffled", style.ORANGE)}


@style.styled
def meta(groups: pd.DataFrame, correlations: pd.DataFrame) -> Figure:
    """Residual against share (a), and Spearman's correlation of the two beside both baselines (b), by dataset.

    groups, correlations: the tables of `compare.groups`. Hollow points expect fewer than 5 records; the thin bars in
    (a) and the bars in (b) span 95 % of chance.
    """
    if groups.empty:
        figure = Figure(figsize=(style.WIDTH, 0.8))
        figure.text(0.5, 0.5, "No group variable with two known groups: nothing to compare.", ha="center")
        return figure
    spearman = correlations[correlations["correlation"] == "spearman"]
    names = list(dict.fromkeys(spearman["dataset"]))
    figure = Figure(figsize=(style.WIDTH, 3.4 + 0.13 * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1])
    colours = _colours(list(dict.fromkeys(groups["dataset"])))
    _draw_groups(left, groups, colours)
    _draw_correlations(right, spearman, names, colours)
    left.set_title("a  Every group")
    right.set_title("b  Residual with share")
    figure.suptitle(in_words(spearman), fontsize=8, x=0.01, ha="left")
    chance = left.plot([], [], color=style.GREY, linewidth=1, alpha=0.6)[0]
    hollow = left.plot([], [], "o", color=style.GREY, markerfacecolor="white", markersize=4.5)[0]
    bars = [right.plot([], [], color=colour, linewidth=4, alpha=0.6)[0] for _, colour in BASELINES.values()]
    figure.legend(
        [hollow, chance, *bars],
        [f"fewer than {SMALL} expected", "95 % of chance (a)", *(f"{label} (b)" for label, _ in BASELINES.values())],
        loc="outside lower center",
        ncols=4,
        columnspacing=1.2,
    )
    return figure


def _colours(datasets: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each dataset; markers go on where colours come round again."""
    colours, markers = style.CYCLE, style.MARKERS
    return {
        name: (colours[i % len(colours)], markers[(i + i // len(colours)) % len(markers)])
        for i, name in enumerate(datasets)
    }


def _draw_groups(ax: Axes, groups: pd.DataFrame, colours: dict[str, tuple[str, str]]) -> None:
    ax.axhline(0, color=style.BLACK, linewidth=0.7, zorder=1)
    share = 100 * groups["share"]
    ax.vlines(
        share, groups["residual_low"], groups["residual_high"], color=style.GREY, alpha=0.35, linewidth=1, zorder=1
    )
    for dataset, (colour, marker) in colours.items():
        rows = groups[groups["dataset"] == dataset]
        for small, face in ((False, colour), (True, "white")):
            part = rows[(rows["tail_expected"] < SMALL) == small]
            ax.plot(
                100 * part["share"],
                part["residual"],
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=4.5,
                alpha=0.9,
                zorder=3,
            )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("share of the group (% of records)")
    largest = float(np.nanmax(np.abs(groups["residual"])))
    if largest > 10:
        ax.set_yscale("symlog", linthresh=3, linscale=1)
        steps = [step for step in (1, 3, 10, 30, 100, 300, 1000) if step <= 1.3 * largest]
        ax.set_yticks([*(-step for step in reversed(steps)), 0, *steps])
        ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        ax.yaxis.set_minor_locator(ticker.NullLocator())
    ax.set_ylabel("Pearson residual in the tail")


def _draw_correlations(ax: Axes, spearman: pd.DataFrame, names: list[str], colours: dict[str, tuple[str, str]]) -> None:
    ax.axvline(0, color=style.BLACK, linewidth=0.7, zorder=1)
    labels = []
    for y, name in enumerate(names):
        rows = spearman[spearman["dataset"] == name].set_index("baseline")
        for shift, (baseline, (_, colour)) in zip((-0.17, 0.17), BASELINES.items(), strict=True):
            low, high = rows.loc[baseline, ["null_low", "null_high"]]
            ax.plot([low, high], [y + shift] * 2, color=colour, linewidth=4, alpha=0.6, solid_capstyle="butt", zorder=2)
        colour, marker = colours.get(name, (style.BLACK, "D"))
        ax.plot(rows["value"].iloc[0], y, marker, color=colour, markersize=6, zorder=3)
        labels.append(f"{name} ({rows['groups'].iloc[0]})")
    ax.set_yticks(range(len(names)), labels)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(-1.05, 1.05)
    ax.set_xlabel("Spearman's correlation (groups)")


def in_words(spearman: pd.DataFrame) -> str:
    """The last rows' correlation (over all datasets, or of the only one) and its p against either baseline."""
    rows = spearman[spearman["dataset"] == spearman["dataset"].iloc[-1]].set_index("baseline")
    value = float(rows["value"].iloc[0])
    if np.isnan(value):
        return "Residual and share have no correlation that is defined: there are too few groups."
    patients, changes = (rows.loc[name] for name in BASELINES)
    more = "more than" if changes["p_value"] <= LEVEL else "no more than"
    return (
        f"Over {rows['groups'].iloc[0]} groups, Spearman's correlation of residual and share is {_number(value)}: "
        f"{more} sizes alone explain.\n"
        f"p {_p(changes)} against changes shuffled between groups (mean {_number(changes['null_mean'])}), "
        f"p {_p(patients)} against patients permuted (mean {_number(patients['null_mean'])})."
    )


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _p(row: pd.Series) -> str:
    text = p_text(row["p_value"])
    return text if text.startswith("<") else f"= {text}"
