"""Stored models are found by their recipe; code that decides a model must not change behind its back."""

import hashlib
from pathlib import Path

from tailrisk import models
from tailrisk.config.fingerprint import _tree_hash
from tailrisk.config.recipe import RECIPE_VERSION

DECIDING = [
    "tailrisk.attacks.confidence",
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
PINNED = (2, "511429fe5b5c866f")


def test_no_module_of_the_models_is_forgotten() -> None:
    package = Path(models.__file__).parent
    assert {f"tailrisk.models.{file.stem}" for file in package.glob("*.py")} - {"tailrisk.models.__init__"} <= set(
        DECIDING
    )


def test_training_code_is_the_pinned_one() -> None:
    trees = "\n".join(f"{module} {_tree_hash(module)}" for module in DECIDING)
    digest = hashlib.sha256(trees.encode()).hexdigest()[:16]
    assert (RECIPE_VERSION, digest) == PINNED, (
        "code that decides a trained model has changed: bump RECIPE_VERSION where results change, so that finished "
        "models are trained again, and re-pin here"
    )
