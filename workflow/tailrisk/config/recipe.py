"""What makes a trained model: its architecture and the way it is trained."""

from typing import Literal

from pydantic import Field, model_validator

from tailrisk.config.architectures import AnyModel
from tailrisk.config.base import Strict, suggestion
from tailrisk.config.presets import PRESETS, Preset

RECIPE_VERSION = 2
"""Bumped by hand whenever code that decides a trained model changes; stored results then no longer match."""


class EarlyStopping(Strict):
    """Keep the weights with the lowest validation loss; stop when it has not fallen for a while."""

    every: int = Field(1, ge=1, description="Epochs between two looks at the validation split.")
    patience: int = Field(
        5, ge=1, description="Looks without improvement after which a model is finished; `epochs` or more never stops."
    )


class Recipe(Strict):
    """How a target model is trained. An epoch is one pass over half of the audited records."""

    preset: Preset | None = Field(
        None,
        exclude=True,
        description="Start from the recipe of a dataset of the paper; the other keys given here replace its own.",
    )
    epochs: int = Field(ge=1, description="Passes over an average training half; every model takes equally many steps.")
    batch_size: int = Field(ge=1, description="Records per step.")
    accumulation: int = Field(
        1, ge=1, description="Equal parts in which a step's records are computed, one after another, to save memory."
    )
    optimizer: Literal["sgd", "adamw"] = Field("adamw", description="SGD with momentum, or AdamW.")
    learning_rate: float = Field(gt=0, description="Peak learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD; not used by AdamW.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay (decoupled for AdamW).")
    decay: Literal["all", "weights"] = Field(
        "all", description="What decays: all parameters, or weights only (no biases, norms, position embeddings)."
    )
    schedule: Literal["cosine", "full_cosine", "constant"] = Field(
        "cosine",
        description="After the warm-up: the paper's cosine, which ends at a fifth of the peak, a cosine that ends at "
        "zero, or a constant rate.",
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps in which the rate rises linearly.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of an exponential moving average of the weights; null for none."
    )
    clip: float | None = Field(None, gt=0, description="Largest norm of a step's gradient; null for no clipping.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the label spread evenly over all classes.")
    augmentation: Literal["none", "weak", "medium", "mammography", "ecg"] = Field(
        "none",
        description="Random changes of every record in every step: weak (flip, shift by up to 12.5 %), medium (weak "
        "and rotation by up to 10°), mammography (rotation, contrast, brightness), ecg (lead dropout, shift, scaling).",
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Choose each model's weights on the validation split; null keeps the last ones."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of training; auto is mixed bfloat16 for images and signals on a GPU, else float32. "
        "Models are always asked in float32. On a GPU float32 multiplies in TF32.",
    )
    retry: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="A model whose loss is not finite is trained once more at this share of the learning rate; null "
        "reports it as failed.",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, data: object) -> object:
        preset = data.get("preset") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(preset, str):
            return data
        if preset not in PRESETS:
            raise ValueError(f"unknown preset '{preset}'; {suggestion(preset, PRESETS)}")
        return {**PRESETS[preset], **data}

    @model_validator(mode="after")
    def _fit_together(self) -> "Recipe":
        if self.early_stopping and self.early_stopping.every > self.epochs:
            raise ValueError("early_stopping.every is larger than epochs: the validation split would never be used")
        if self.batch_size % self.accumulation:
            raise ValueError(f"accumulation must divide batch_size ({self.batch_size}) into equal parts")
        return self


class Training(Strict):
    """Everything that decides a trained model, and nothing else. Its canonical JSON is the `recipe` of a job."""

    recipe_version: int = RECIPE_VERSION
    seed: int
    model: AnyModel
    code: str | None = Field(None, description="Hash of the code of a model of one's own.")
    recipe: Recipe
