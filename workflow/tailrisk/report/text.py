"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import Any

from tailrisk.figures.roc import ATTACKS
from tailrisk.figures.style import percent
from tailrisk.figures.subgroups import p_text

METRICS = {"auroc": "AUROC", "macro_auroc": "macro AUROC"}
MISSING = "–"


def number(value: Any, digits: int = 3) -> str:
    """A number with `digits` decimals, or a dash for a missing one."""
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands separators, or a dash for a missing one."""
    return MISSING if value is None else f"{value:,.0f}"


def expected(value: Any) -> str:
    """An expected count: one decimal; below 0.05 as "< 0.1", so that it is not taken for impossible."""
    if value is None or math.isnan(value):
        return MISSING
    return "< 0.1" if value < 0.05 else f"{value:,.1f}"


def share(value: Any) -> str:
    """A share as a percentage, or a dash for a missing one."""
    return MISSING if value is None or math.isnan(value) else percent(value)


def signed_percent(value: Any) -> str:
    """A relative change as a signed whole percentage."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:+.0f} %".replace("-", "−")


def standard_error(value: Any) -> str:
    """A standard error with three decimals, or "< 0.001"."""
    return "< 0.001" if value is not None and value < 0.0005 else number(value)


def metric(name: str) -> str:
    """A metric's name as written in text."""
    return METRICS.get(name, name)


def plural(n: int, noun: str) -> str:
    """`1 patient`, `2 patients`, `no patient`."""
    return f"no {noun}" if n == 0 else f"{n:,} {noun}" + ("" if n == 1 else "s")


FURTHER_ATTACKS = {
    "lira_online_fixed": "LiRA online, one variance for all records",
    "lira_online_shrunk": "LiRA online, variances drawn together",
    "lira_offline_fixed": "LiRA offline, one variance for all records",
    "lira_offline_two_sided": "LiRA offline, two-sided",
    "lira_offline_two_sided_fixed": "LiRA offline, two-sided, one variance for all records",
}
"""Attacks that are in the table alone."""

DRAWN = {
    "complementary": "Their members were drawn as complementary pairs.",
    "balanced": "Every patient is a member of exactly half of them; what chance gives comes from redrawn halves.",
    "independent": "Members were drawn by a fair coin for every patient and model, and so is what chance gives.",
    "unknown": "It is not known how their members were drawn: there are no p-values, and nobody is called vulnerable.",
}


def drawn(design: str) -> str:
    """How the members of given target models were drawn, as a sentence."""
    return DRAWN[design]


def attack(name: str) -> str:
    """An aggregate attack's name as written in text."""
    return (ATTACKS | FURTHER_ATTACKS)[name]


FILTERS = {
    "drawn": drawn,
    "standard_error": standard_error,
    "attack": attack,
    "number": number,
    "count": count,
    "expected": expected,
    "share": share,
    "signed_percent": signed_percent,
    "p_value": p_text,
    "metric": metric,
}
