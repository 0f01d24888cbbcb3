"""The train stage: one chunk of target models, with what it ran on kept beside the results."""

from dataclasses import asdict
from pathlib import Path

from tailrisk.config.study import Running, chunk_models
from tailrisk.tables import write_json
from tailrisk.training.job import parse_json, run_chunk


def train(
    dataset: Path,
    recipe: str,
    queries: str,
    models: str,
    store: Path,
    running: str,
    provenance: Path,
    output: Path,
    device: str | None,
) -> None:
    """Write the chunk table at `output` and, undeclared to the workflow, hardware and times under `provenance`."""
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
    if outcome.trained or not provenance.exists():  # a job that only served keeps the record of the one that trained
        write_json(provenance, asdict(outcome))
