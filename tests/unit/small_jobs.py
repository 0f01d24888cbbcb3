"""Short training jobs."""

from pathlib import Path

from tailrisk.config.architectures import TabularResNet
from tailrisk.config.base import canonical
from tailrisk.config.recipe import Recipe, Training
from tailrisk.training.job import Outcome, run_chunk

QUERIES = canonical({"clean": {"kind": "clean"}})


NETWORK = TabularResNet(architecture="tabular_resnet", width=17, depth=1)


def recipe(model=NETWORK, **changes) -> str:
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01} | changes
    return canonical(Training(seed=1, model=model, recipe=Recipe(**settings)))


def chunk(dataset: Path, folder: Path, models: range, **changes) -> tuple[Path, Outcome]:
    output = folder / f"{models.start}-{models.stop - 1}.parquet"
    options = {"recipe": recipe(), "queries": QUERIES, "store": folder / "store", "progress": None} | changes
    return output, run_chunk(dataset, models=models, output=output, **options)
