"""Names of what lies in the store, for code that looks into it without loading torch."""

import hashlib
from pathlib import Path

from pydantic import BaseModel

from tailrisk.config.base import canonical

NOTE = "performance.json"
"""Note of a finished model, written last: a model without it is not finished."""


def folder(root: Path, recipe: str, data_hash: str) -> Path:
    """Folder of the models of a recipe, as canonical JSON, on a state of the data; one folder a model lies in it."""
    return root / hashlib.sha256(f"{recipe}\0{data_hash}".encode()).hexdigest()[:32]


def answers(query: BaseModel) -> str:
    """Name of the file with a model's answers to a query."""
    return f"{hashlib.sha256(canonical(query).encode()).hexdigest()[:16]}.parquet"
