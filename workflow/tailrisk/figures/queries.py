"""Queries in words, for the people who read a figure or the page."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from tailrisk.config.queries import AnyQuery, Augmented, Clean

FILLS = {"median": "the median", "zero": "zeros", "donor": "another patient's values"}


def in_words(query: AnyQuery, input_shape: Sequence[int]) -> str:
    """What an attacker asks with: "the whole record", "16 augmented views", "only lead I, the rest filled with zeros".

    input_shape: that of one record, (features,), (leads, samples) or (channels, height, width).
    """
    if isinstance(query, Clean):
        return "the whole record"
    if isinstance(query, Augmented):
        return f"{query.views} augmented view{'' if query.views == 1 else 's'}"
    names, region = query.known or query.hidden, query.known_region or query.hidden_region
    part = _named(names, input_shape) if names else _region(region) if region else ""
    if query.known or query.known_region:
        return f"only {part}, the rest filled with {FILLS[query.fill]}"
    return f"without {part}, filled with {FILLS[query.fill]}"


def _named(names: Sequence[str], input_shape: Sequence[int]) -> str:
    joined = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    text = shorten(joined, 60, placeholder=f" … ({len(names)} in all)")
    if len(input_shape) == 2:
        return f"lead {text}" if len(names) == 1 else f"leads {text}"
    return text


def _region(region: tuple[float, float, float, float]) -> str:
    top, left, bottom, right = region
    if (left, right) == (0, 1):
        return _side(top, bottom, "upper", "lower")
    if (top, bottom) == (0, 1):
        return _side(left, right, "left", "right")
    return f"the part of the image {_between(top, bottom)} from its top and {_between(left, right)} from its left"


def _side(start: float, stop: float, near: str, far: str) -> str:
    """A band across the whole image, by name where it lies at an edge."""
    if start == 0:
        return f"the {near} {100 * stop:g} % of the image"
    if stop == 1:
        return f"the {far} {100 * (1 - start):g} % of the image"
    edge = "top" if near == "upper" else "left"
    return f"the part of the image {_between(start, stop)} from its {edge}"


def _between(start: float, stop: float) -> str:
    return f"{100 * start:g} to {100 * stop:g} %"
