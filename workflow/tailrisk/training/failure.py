"""What is said of target models that failed, and of jobs that end before their models are finished."""

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path

from tailrisk.config.architectures import AnyModel, Custom

MOST_REASONS = 3
NOT_FINISHED = "not finished"
"""Ends what a failed job says of its models; why it failed comes after a colon."""


def numbers(models: Iterable[int]) -> str:
    """Model numbers in words, runs of them in short: "0 to 3, 7"."""
    runs: list[list[int]] = []
    for number in sorted(models):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def target_models(models: Iterable[int]) -> str:
    """ "target model 3" or "target models 0 to 3"."""
    listed = list(models)
    return f"target model{'' if len(listed) == 1 else 's'} {numbers(listed)}"


def reasons(failed: Mapping[int, str]) -> str:
    """Which models failed and why, those that share a reason together; the rarer reasons only counted."""
    alike: dict[str, list[int]] = {}
    for number, reason in failed.items():
        alike.setdefault(reason, []).append(number)
    told = sorted(alike.items(), key=lambda item: (-len(item[1]), item[1]))
    said = [f"{target_models(models)}: {reason}" for reason, models in told[:MOST_REASONS]]
    rest = sum(len(models) for _, models in told[MOST_REASONS:])
    return "; ".join([*said, *([f"and {rest} more for other reasons"] if rest else [])])


def own_code(model: AnyModel, error: Exception) -> str | None:
    """Where in the code of a model of the user's own `error` arose, and what it says; None where it did not."""
    if not isinstance(model, Custom):
        return None
    folder = Path(model.path).resolve()
    inside = [
        (place.relative_to(folder), frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if (place := Path(frame.filename)).is_relative_to(folder) and "site-packages" not in place.parts
    ]
    if not inside:
        return None
    path, line = inside[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"the model of {model.function} raises {said} (line {line} of {path})"
