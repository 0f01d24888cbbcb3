"""A number from a simulation beside the limits it has to keep, and the table of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binom, t

LEVEL = 0.999  # of the limits: one right method in a thousand would break them


@dataclass(frozen=True)
class Check:
    """One simulated quantity: `value` from `size` repetitions must lie between `low` and `high`.

    contrast: a method known to be wrong, which must break its limits, or the check would not see anything.
    """

    what: str
    setting: str
    size: int
    value: float
    low: float
    high: float
    contrast: bool = False

    @property
    def passed(self) -> bool:
        """Whether the method does what it should; for a contrast, whether it fails."""
        return (self.low <= self.value <= self.high) != self.contrast


def share(
    what: str,
    setting: str,
    hits: int,
    size: int,
    expected: tuple[float, float],
    contrast: bool = False,
) -> Check:
    """A share of repetitions whose true value lies within `expected`, with binomial limits for `size` of them."""
    low, high = expected
    tail = (1 - LEVEL) / 2
    limits = binom.ppf(tail, size, low) / size, binom.isf(tail, size, high) / size
    return Check(what, setting, size, hits / size, *map(float, limits), contrast)


def mean(
    what: str,
    setting: str,
    value: float,
    error: float,
    size: int,
    expected: tuple[float, float],
    contrast: bool = False,
) -> Check:
    """A mean over `size` repetitions with standard error `error`, whose true value lies within `expected`."""
    margin = float(t.isf((1 - LEVEL) / 2, size - 1)) * error
    return Check(what, setting, size, value, expected[0] - margin, expected[1] + margin, contrast)


def table(checks: Sequence[Check]) -> str:
    """Markdown."""
    lines = [
        "| what | setting | repetitions | result | allowed | |",
        "|---|---|--:|--:|--:|---|",
    ]
    for one in checks:
        verdict = "holds" if not one.contrast else "fails, as it must"
        if not one.passed:
            verdict = "**FAILS**" if not one.contrast else "**NOT SEEN**"
        value, low, high = (f"{max(0.0, number):.4f}" for number in (one.value, one.low, one.high))
        lines.append(f"| {one.what} | {one.setting} | {one.size:,} | {value} | {low} to {high} | {verdict} |")
    return "\n".join(lines)
