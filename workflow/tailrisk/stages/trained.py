"""Where the target models of a chunk were trained, as their notes in the store say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailrisk.config.load import parse
from tailrisk.config.recipe import Training
from tailrisk.config.study import chunk_models
from tailrisk.tables import read_json
from tailrisk.training.store import Store


def trained(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The machines that trained the target models of a job with these parameters: machine, models and seconds of each.

    A model that was served from the store was trained by an earlier job, perhaps elsewhere.
    """
    training = parse(Training, parameters["recipe"], "recipe")
    data_hash = read_json(Path(parameters["dataset"], "card.json"))["data_hash"]
    store = Store(Path(parameters["store"]), training, data_hash)
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for model in chunk_models(parameters["models"]):
        note = store.finished(model)
        if note is not None:
            key = tuple(sorted(note.machine.items()))
            entry = found.setdefault(key, {"machine": note.machine, "models": [], "seconds": 0.0})
            entry["models"].append(model)
            entry["seconds"] += note.seconds
    return list(found.values())
