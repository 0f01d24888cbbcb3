"""Stored models are found by their recipe; code that decides a model must not change behind its back."""

import hashlib

from tailrisk.config.fingerprint import _tree_hash
from tailrisk.config.recipe import RECIPE_VERSION

DECIDING = [
    "tailrisk.attacks.confidence",
    "tailrisk.membership",
    "tailrisk.models",
    "tailrisk.models.logistic",
    "tailrisk.models.stacked",
    "tailrisk.models.tabular_resnet",
    "tailrisk.training.engine",
    "tailrisk.training.flat",
    "tailrisk.training.halves",
    "tailrisk.training.job",
    "tailrisk.training.losses",
    "tailrisk.training.optimizer",
    "tailrisk.training.order",
    "tailrisk.training.performance",
    "tailrisk.training.queries",
    "tailrisk.training.resident",
    "tailrisk.training.schedule",
    "tailrisk.training.seeds",
]
PINNED = (1, "da4a64a98b579014")


def test_training_code_is_the_pinned_one() -> None:
    trees = "\n".join(f"{module} {_tree_hash(module)}" for module in DECIDING)
    digest = hashlib.sha256(trees.encode()).hexdigest()[:16]
    assert (RECIPE_VERSION, digest) == PINNED, (
        "code that decides a trained model has changed: bump RECIPE_VERSION where results change, so that finished "
        "models are trained again, and re-pin here"
    )
