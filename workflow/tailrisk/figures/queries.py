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
    top, left, bottom, right = (f"{100 * share:g}" for share in region)
    return f"the image from {top} to {bottom} % of its height and {left} to {right} % of its width"
