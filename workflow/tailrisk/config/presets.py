"""Recipes of the paper's datasets (its table of training settings), to start from.

The `-vit` presets are not the paper's: its code fine-tunes vision transformers with the settings of the convolutional
network of the same dataset, for CheXpert SGD at a learning rate of 1.0, which undoes pretraining. Here they use AdamW
at a rate usual for fine-tuning, with the dataset's batch size, epochs and augmentation.
"""

from typing import Any, Literal

Preset = Literal[
    "chexpert",
    "chexpert-vit",
    "mimic-cxr",
    "mimic-cxr-vit",
    "fitzpatrick17k",
    "fitzpatrick17k-vit",
    "fairvision",
    "fairvision-vit",
    "embed",
    "embed-vit",
    "ptb-xl",
    "mimic-iv-ed",
]

_SGD = {"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine"}
_LARGE = {"batch_size": 1024, "accumulation": 2}  # 512 × 2 in the paper

PRESETS: dict[str, dict[str, Any]] = {
    "chexpert": _SGD
    | _LARGE
    | {
        "learning_rate": 1.0,
        "weight_decay": 1e-4,
        "epochs": 60,
        "augmentation": "medium",
        "ema": 0.9995,
        "warmup": 0.05,
    },
    "mimic-cxr": _SGD
    | _LARGE
    | {
        "momentum": 0.99,
        "learning_rate": 0.25,
        "weight_decay": 1e-3,
        "epochs": 60,
        "augmentation": "medium",
        "ema": 0.95,
        "warmup": 0.2,
    },
    "fitzpatrick17k": _SGD
    | {
        "batch_size": 256,
        "learning_rate": 5e-3,
        "weight_decay": 1e-4,
        "epochs": 100,
        "augmentation": "medium",
        "ema": 0.99,
        "warmup": 0.05,
    },
    "fairvision": _SGD
    | {
        "batch_size": 256,
        "learning_rate": 1e-4,
        "weight_decay": 1e-6,
        "epochs": 100,
        "augmentation": "weak",
        "ema": 0.99,
        "warmup": 0.1,
    },
    "embed": _SGD
    | _LARGE
    | {
        "learning_rate": 0.1,
        "weight_decay": 1e-8,
        "epochs": 30,
        "augmentation": "mammography",
        "ema": 0.995,
        "warmup": 0.1,
    },
    "ptb-xl": _SGD | _LARGE | {"learning_rate": 0.25, "weight_decay": 5e-3, "epochs": 100, "ema": 0.995},
    "mimic-iv-ed": _SGD | _LARGE | {"learning_rate": 0.1, "weight_decay": 1e-7, "epochs": 100, "ema": 0.995},
}

_FINE_TUNING = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.05,
    "decay": "weights",
    "clip": 1.0,
    "schedule": "full_cosine",
    "warmup": 0.1,
    "ema": None,
}
for _name in ("chexpert", "mimic-cxr", "fitzpatrick17k", "fairvision", "embed"):
    PRESETS[f"{_name}-vit"] = PRESETS[_name] | _FINE_TUNING
