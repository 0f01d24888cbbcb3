"""The train stage: one chunk of target models."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailrisk.config.study import Running, chunk_models
from tailrisk.training.job import parse_json, run_chunk
from tailrisk.training.own_gpu import own_gpu


def train(
    dataset: Path, recipe: str, queries: str, models: str, store: Path, running: str, output: Path, device: str | None
) -> dict[str, Any]:
    """Write the chunk table at `output`, and return what the job did, on which hardware and how long."""
    with own_gpu():
        outcome = run_chunk(
            dataset=dataset,
            recipe=recipe,
            queries=queries,
            models=chunk_models(models),
            store=store,
            output=output,
            running=parse_json(Running, running, "running"),
            device=device,
        )
    return asdict(outcome)
