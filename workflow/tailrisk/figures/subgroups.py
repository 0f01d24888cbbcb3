"""Who is over-represented among the most exposed records and patients."""

from __future__ import annotations

from textwrap import shorten

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tailrisk.figures import style

LEVEL = 0.05
SMALL = 5  # expected count below which a Pearson residual is far from normal
_NAMES = 36  # characters of a group's name


@style.styled
def subgroups(subgroups: pd.DataFrame) -> Figure:
    """Pearson residual (O − E)/√E of every group in the tail of records, by variable, over its range by permutation.

    Vermillion marks the groups of variables with p_adjusted ≤ 0.05; hollow points expect fewer than 5 records.
    """
    table = subgroups[subgroups["unit"] == "record"]
    strata, table = table[table["within"] != ""], table[table["within"] == ""]
    if table.empty:
        return _nothing()
    rows = len(table) + table["variable"].nunique()
    figure = Figure(figsize=(style.WIDTH, max(2.2, 1.3 + 0.2 * rows)), layout="constrained")
    ax = figure.subplots()
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for variable, part in table.groupby("variable", sort=False, observed=True):
        p = part["p_adjusted"].iloc[0]
        within = strata[strata["variable"] == variable].drop_duplicates("within")
        strata_p = ", ".join(f"{row.within} {p_text(row.p_adjusted)}" for row in within.itertuples())
        _heading(ax, y, f"{variable} (adjusted p {p_text(p)}{'; within ' + strata_p if strata_p else ''})")
        for row in part.sort_values("residual", ascending=False).itertuples():
            y += 1
            colour = style.VERMILLION if p <= LEVEL else style.BLUE
            hollow = row.tail_expected < SMALL
            ax.barh(
                y, row.residual_high - row.residual_low, 0.8, row.residual_low, color=style.GREY, alpha=0.2, zorder=0
            )
            ax.plot([0, row.residual], [y, y], color=colour, linewidth=1, zorder=2)
            ax.plot(row.residual, y, "o", color=colour, markerfacecolor="white" if hollow else colour, zorder=3)
            ax.text(
                1.01,
                y,
                f"{row.tail_n:,} ({row.tail_expected:,.1f})",
                transform=ax.get_yaxis_transform(),
                ha="left",
                va="center",
                fontsize=8,
            )
            ticks.append((y, _label(row.group, row.share)))
        y += 1
    _groups_axis(ax, ticks, y)
    ax.axvline(0, color=style.BLACK, linewidth=0.7, zorder=1)
    limit = max(3.0, 1.12 * float(table[["residual", "residual_low", "residual_high"]].abs().max(axis=None)))
    ax.set_xlim(-limit, limit)
    ax.set_xlabel("Pearson residual")
    ax.set_title("Group and its share of records")
    ax.set_title("in the tail (expected)", loc="right", fontsize=8, weight="normal")
    for colour, face, text in (
        (style.VERMILLION, style.VERMILLION, f"adjusted p ≤ {LEVEL}"),
        (style.BLUE, style.BLUE, f"adjusted p > {LEVEL}"),
        (style.GREY, "white", f"fewer than {SMALL} expected"),
    ):
        ax.plot([], [], "o", color=colour, markerfacecolor=face, label=text)
    handles, _ = ax.get_legend_handles_labels()
    handles.append(Patch(color=style.GREY, alpha=0.2, linewidth=0, label="95 % of permutations"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


@style.styled
def composition(subgroups: pd.DataFrame) -> Figure:
    """Share of every group in the tail beside its share of the whole, for records and for patients."""
    table = subgroups[subgroups["within"] == ""]
    if table.empty:
        return _nothing()
    records = table[table["unit"] == "record"]
    rows = len(records) + records["variable"].nunique()
    figure = Figure(figsize=(style.WIDTH, max(2.2, 1.3 + 0.26 * rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for variable, part in records.groupby("variable", sort=False, observed=True):
        overlap = " (groups overlap)" if part["overlapping"].iloc[0] else ""
        _heading(panels[0], y, f"{variable}{overlap}")
        patients = table[(table["unit"] == "patient") & (table["variable"] == variable)]
        if patients.empty:
            _heading(panels[1], y, "not one value a patient", weight="normal")
        order = part.sort_values("share", ascending=False)["group"].tolist()
        for group in order:
            y += 1
            for ax, unit in zip(panels, (part, patients), strict=True):
                for row in unit[unit["group"] == group].itertuples():
                    _pair(ax, y, row.share, row.tail_share)
            ticks.append((y, shorten(str(group), _NAMES, placeholder=" …")))
        y += 1
    longest = float(table[["share", "tail_share"]].max(axis=None))
    for ax, unit in zip(panels, ("record", "patient"), strict=True):
        _groups_axis(ax, ticks, y)
        ax.set_xlim(0, 1.45 * longest)  # room for the numbers at the longest bar
        ax.set_xticks([share for share in ax.get_xticks() if 0 <= share <= 1])
        ax.set_xlim(0, 1.45 * longest)
        ax.xaxis.set_major_formatter(lambda share, _: style.percent(share))
        ax.set_xlabel(f"share of {unit}s")
        ax.set_title(f"{unit.capitalize()}s")
    panels[1].tick_params(axis="y", labelleft=False)
    handles = [Patch(color=style.GREY, alpha=0.45, linewidth=0, label="whole"),
               Patch(color=style.BLUE, linewidth=0, label="tail")]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _pair(ax: Axes, y: float, whole: float, tail: float) -> None:
    ax.barh(y - 0.19, whole, 0.36, color=style.GREY, alpha=0.45)
    ax.barh(y + 0.19, tail, 0.36, color=style.BLUE)
    text = f"{style.percent(whole)} → {style.percent(tail)}"
    ax.annotate(text, (max(whole, tail), y), (3, 0), textcoords="offset points", va="center", fontsize=7).set_in_layout(
        False
    )


def _heading(ax: Axes, y: float, text: str, weight: str = "bold") -> None:
    ax.text(
        0.0,
        y,
        text,
        transform=ax.get_yaxis_transform(),
        ha="left",
        va="center",
        fontsize=8,
        weight=weight,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def _label(group: object, share: float) -> str:
    return f"{shorten(str(group), _NAMES, placeholder=' …')}, {style.percent(share)}"


def _groups_axis(ax: Axes, ticks: list[tuple[float, str]], end: float) -> None:
    """Groups from top to bottom, without a line."""
    ax.spines["left"].set_visible(False)
    ax.set_yticks([tick for tick, _ in ticks], [text for _, text in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(end - 0.4, -0.6)


def _nothing() -> Figure:
    figure = Figure(figsize=(style.WIDTH, 0.8))
    figure.text(0.5, 0.5, "No group variable with two known groups: nothing to compare.", ha="center")
    return figure


def p_text(p: float) -> str:
    """A p-value for people: 0.03, < 0.001, or "not computed" for a missing one."""
    if pd.isna(p):
        return "not computed"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
