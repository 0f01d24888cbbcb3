"""The gather stage: the chunks of an experiment become one confidence table per query, and one of performance."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tailrisk.errors import UserError
from tailrisk.tables import LOSS, ConfidenceWriter, metadata, opened, write_table


class Kept(NamedTuple):
    """What the chunks of an experiment hold: the models of whole pairs, what to tell of the others, and the stamp."""

    models: list[int]
    told: list[str]
    stamp: dict[str, Any]
    performance: list[list[Any]]


def gather(chunks: list[Path], n_models: int, query: str, output: Path, max_failed_pairs: int) -> None:
    """Write the confidences that target models 0 to n_models − 1 gave under `query`.

    A failed model costs its whole pair, so that every patient stays IN exactly half of the models. UserError where
    more than `max_failed_pairs` are lost, or the chunks do not belong together or lack answers.
    """
    kept = _kept(chunks, n_models, max_failed_pairs)
    wanted, written = set(kept.models), []
    with opened(chunks[0], "chunk") as file:
        losses = LOSS.name in file.schema_arrow.names
    columns = ["row", "member", "confidence", *([LOSS.name] if losses else [])]
    with ConfidenceWriter(output, "confidences", {**kept.stamp, "query": query}, losses) as writer:
        for chunk in chunks:
            with opened(chunk, "chunk") as file:
                for group in range(file.num_row_groups):
                    heads = file.read_row_group(group, columns=["query", "model"])
                    model = int(heads.column("model")[0].as_py())
                    if heads.column("query")[0].as_py() != query or model not in wanted:
                        continue
                    table = file.read_row_group(group, columns=columns)
                    writer.add(
                        model,
                        table.column("row").to_numpy(),
                        table.column("member").to_numpy(zero_copy_only=False),
                        table.column("confidence").to_numpy(),
                        loss=table.column(LOSS.name).to_numpy() if losses else None,
                    )
                    written.append(model)
        if not np.array_equal(written, kept.models):
            missing = sorted(wanted - set(written))
            raise UserError(
                f"the chunks hold no '{query}' answers of target model {missing[0] if missing else written}: "
                "delete the experiment's folder under results/targets and run again"
            )


def performance(chunks: list[Path], n_models: int, output: Path, max_failed_pairs: int) -> list[str]:
    """Write the performance of the models that `gather` keeps, and return what to tell about failed models."""
    kept = _kept(chunks, n_models, max_failed_pairs)
    frame = pd.DataFrame(kept.performance, columns=["model", "split", "metric", "value"])
    write_table(output, "performance", frame.sort_values(["model", "split", "metric"], ignore_index=True), kept.stamp)
    return kept.told


def _kept(chunks: list[Path], n_models: int, max_failed_pairs: int) -> Kept:
    stamps = {path: metadata(path, "chunk") for path in chunks}
    _agree(stamps)
    failed = {int(model): reason for stamp in stamps.values() for model, reason in stamp["failed"].items()}
    failed = {model: reason for model, reason in sorted(failed.items()) if model < n_models}
    lost = {model // 2 for model in failed}
    told = [f"target model {model} failed: {reason}" for model, reason in failed.items()]
    if len(lost) > max_failed_pairs:
        raise UserError(
            f"{len(lost)} of {n_models // 2} pairs have a failed target model, and max_failed_pairs allows "
            f"{max_failed_pairs}: {'; '.join(told[:3])}; change the recipe, or allow more"
        )
    if lost:
        told.append(f"{len(lost)} of {n_models // 2} pairs are left out of the audit")
    models = [model for model in range(n_models) if model // 2 not in lost]
    retried = sorted(model for stamp in stamps.values() for model in stamp["retried"] if model in set(models))
    if retried:
        told.append(f"trained once more at a lower learning rate: target models {', '.join(map(str, retried))}")
    first = next(iter(stamps.values()))
    stamp = {key: first[key] for key in ("recipe", "data_hash", "capacity")}
    stamp["task"] = first.get("task")  # chunks of earlier versions lack it
    stamp |= {"n_models": n_models, "failed": {str(model): reason for model, reason in failed.items()}}
    stamp["retried"] = retried
    measured = [row for s in stamps.values() for row in s["performance"] if row[0] in set(models)]
    return Kept(models, told, stamp, measured)


def _agree(stamps: dict[Path, dict[str, Any]]) -> None:
    """All chunks must come from one recipe and one state of the data."""
    (first_path, first), *others = stamps.items()
    for path, stamp in others:
        for key, name in (("recipe", "recipe"), ("data_hash", "state of the data")):
            if stamp[key] != first[key]:
                raise UserError(f"{path} comes from another {name} than {first_path}: delete it and run again")
