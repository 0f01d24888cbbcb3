"""Stored models are found by their recipe; code that decides a model must not change behind its back."""

import hashlib
from pathlib import Path
from types import ModuleType

import pytest

from tailrisk import models, training
from tailrisk.config.fingerprint import _tree_hash
from tailrisk.config.recipe import RECIPE_VERSION

DECIDING = [
    "tailrisk.attacks.confidence",
    "tailrisk.datasets.draws",
    "tailrisk.membership",
    "tailrisk.models",
    "tailrisk.models.custom",
    "tailrisk.models.logistic",
    "tailrisk.models.normalisation",
    "tailrisk.models.resnet1d",
    "tailrisk.models.shapes",
    "tailrisk.models.singly",
    "tailrisk.models.stacked",
    "tailrisk.models.tabular_resnet",
    "tailrisk.models.vision",
    "tailrisk.models.vit",
    "tailrisk.models.wide_resnet",
    "tailrisk.training.augment",
    "tailrisk.training.choice",
    "tailrisk.training.device",
    "tailrisk.training.engine",
    "tailrisk.training.flat",
    "tailrisk.training.halves",
    "tailrisk.training.job",
    "tailrisk.training.losses",
    "tailrisk.training.optimizer",
    "tailrisk.training.order",
    "tailrisk.training.performance",
    "tailrisk.training.queries",
    "tailrisk.training.redact",
    "tailrisk.training.resident",
    "tailrisk.training.schedule",
    "tailrisk.training.seeds",
    "tailrisk.training.trainer",
    "tailrisk.training.watch",
]
PINNED = (2, "616c4795a73b50ff")


SPEED_ALONE = {"failure", "memory", "own_gpu", "places", "progress", "stack", "store", "termination"}
"""Modules of training that decide no result."""


@pytest.mark.parametrize("package", [models, training], ids=["models", "training"])
def test_no_module_is_forgotten(package: ModuleType) -> None:
    found = {file.stem for file in Path(str(package.__file__)).parent.glob("*.py")} - {"__init__"} - SPEED_ALONE
    assert {f"{package.__name__}.{module}" for module in found} <= set(DECIDING)


def test_training_code_is_the_pinned_one() -> None:
    trees = "\n".join(f"{module} {_tree_hash(module)}" for module in DECIDING)
    digest = hashlib.sha256(trees.encode()).hexdigest()[:16]
    assert (RECIPE_VERSION, digest) == PINNED, (
        "code that decides a trained model has changed: bump RECIPE_VERSION where results change, so that finished "
        "models are trained again, and re-pin here"
    )
