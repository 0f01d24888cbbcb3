"""What makes a trained model: its architecture and the way it is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailrisk.config.base import Strict

RECIPE_VERSION = 1
"""Bumped by hand whenever code that decides a trained model changes; stored results then no longer match."""


class Logistic(Strict):
    """Logistic regression: one linear layer."""

    architecture: Literal["logistic"]


class TabularResNet(Strict):
    """Residual network for tables (Gorishniy et al., NeurIPS 2021): `depth` blocks of `width` units."""

    architecture: Literal["tabular_resnet"]
    width: int = Field(ge=1, description="Units of every layer.")
    depth: int = Field(ge=1, description="Number of residual blocks; the paper uses 300 × 6.")


AnyModel = Annotated[Logistic | TabularResNet, Field(discriminator="architecture")]


class EarlyStopping(Strict):
    """Keep the weights with the lowest validation loss; stop when it has not fallen for a while."""

    every: int = Field(1, ge=1, description="Epochs between two looks at the validation split.")
    patience: int = Field(5, ge=1, description="Looks without improvement after which a model is finished.")


class Recipe(Strict):
    """How a target model is trained. An epoch is one pass over half of the audited records."""

    epochs: int = Field(ge=1, description="Passes over an average training half; every model takes equally many steps.")
    batch_size: int = Field(ge=1, description="Records per step.")
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with momentum, or AdamW.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD; not used by AdamW.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay (decoupled for AdamW).")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        description="After the warm-up: a constant rate, or the paper's cosine, which ends at a fifth of the peak.",
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises linearly.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an exponential moving average of the weights; null for none."
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Choose each model's weights on the validation split; null keeps the last ones."
    )

    @model_validator(mode="after")
    def _look_within_training(self) -> "Recipe":
        if self.early_stopping and self.early_stopping.every > self.epochs:
            raise ValueError("early_stopping.every is larger than epochs: the validation split would never be used")
        return self


class Clean(Strict):
    """The record as it is."""

    kind: Literal["clean"]


class Training(Strict):
    """Everything that decides a trained model, and nothing else. Its canonical JSON is the `recipe` of a job."""

    recipe_version: int = RECIPE_VERSION
    seed: int
    model: AnyModel
    recipe: Recipe
