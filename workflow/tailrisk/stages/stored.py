"""What the store holds of a study's target models: read without torch, a few operations of the file system a model."""

import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tailrisk.config.plan import Plan
from tailrisk.config.study import Experiment
from tailrisk.training import places

READERS = 16
"""Files looked at side by side, as a slow file system takes many questions at once."""


@dataclass(frozen=True)
class Note:
    """Of a finished model: why it failed (None: it did not), seconds of training, when it was finished, versions."""

    reason: str | None
    seconds: float
    time: float
    machine: dict[str, str]


def stored(plan: Plan, experiments: Iterable[Experiment], results: Path) -> dict[str, dict[int, Note]]:
    """The finished target models of experiments by name and number: those that have answered every query, or failed.

    A dataset that is not prepared has none.
    """
    found: dict[str, dict[int, Note]] = {}
    with ThreadPoolExecutor(READERS) as readers:
        waiting = {}
        for experiment in experiments:
            found[experiment.name] = {}
            folder = models_folder(experiment, results)
            if folder is None:
                continue
            wanted = {places.answers(plan.study.queries[query]) for query in experiment.queries}
            for number in _there(folder, experiment.n_models):
                waiting[experiment.name, number] = readers.submit(_note, folder / str(number), wanted)
        for (name, number), reading in waiting.items():
            note = reading.result()
            if note is not None:
                found[name][number] = note
    return found


def models_folder(experiment: Experiment, results: Path) -> Path | None:
    """Folder of the experiment's models in the store; None where its dataset is not prepared."""
    try:
        card = json.loads((results / "datasets" / experiment.dataset / "card.json").read_bytes())
        return places.folder(results / "store", experiment.recipe, card["data_hash"])
    except (OSError, ValueError, KeyError):
        return None


def failed_models(notes: Mapping[int, Note]) -> dict[int, str]:
    """Why models failed, by number."""
    return {number: note.reason for number, note in notes.items() if note.reason is not None}


def _there(folder: Path, n_models: int) -> list[int]:
    """Numbers of the models that have a folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  # names alone
    except FileNotFoundError:
        return []
    return sorted(number for number in map(int, filter(str.isdecimal, names)) if number < n_models)


def _note(folder: Path, wanted: set[str]) -> Note | None:
    """The note of a model; None where it is not finished, lacks one of the `wanted` answers, or is damaged."""
    try:
        names = set(os.listdir(folder))  # noqa: PTH208
        if places.NOTE not in names:
            return None
        with (folder / places.NOTE).open("rb") as file:
            content = json.loads(file.read())
            time = os.fstat(file.fileno()).st_mtime
        note = Note(content["reason"], content["seconds"], time, content["machine"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if note.reason is not None or wanted <= names else None
