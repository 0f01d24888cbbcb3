"""The gather stage: the chunks of an experiment become one confidence table per query, and one of performance."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tailrisk.errors import UserError
from tailrisk.tables import ConfidenceWriter, metadata, opened, write_table


def gather(
    chunks: list[Path], n_models: int, confidences: dict[str, Path], performance: Path, max_failed_pairs: int
) -> list[str]:
    """Write the tables of target models 0 to n_models − 1, and return what to tell about failed models.

    A failed model costs its whole pair, so that every patient stays IN exactly half of the models. UserError where
    more than `max_failed_pairs` are lost, or the chunks do not belong together.
    """
    stamps = {path: metadata(path, "chunk") for path in chunks}
    _agree(stamps)
    failed = {int(model): reason for stamp in stamps.values() for model, reason in stamp["failed"].items()}
    failed = {model: reason for model, reason in failed.items() if model < n_models}
    lost = sorted({model // 2 for model in failed})
    told = [f"target model {model} failed: {reason}" for model, reason in sorted(failed.items())]
    if len(lost) > max_failed_pairs:
        raise UserError(
            f"{len(lost)} of {n_models // 2} pairs have a failed target model, and max_failed_pairs allows "
            f"{max_failed_pairs}: {'; '.join(told[:3])}; change the recipe, or allow more"
        )
    if lost:
        told.append(f"{len(lost)} of {n_models // 2} pairs are left out of the audit")
    kept = [model for model in range(n_models) if model // 2 not in lost]
    first = next(iter(stamps.values()))
    stamp = {key: first[key] for key in ("recipe", "data_hash", "capacity")}
    stamp |= {"n_models": n_models, "failed": {str(model): reason for model, reason in sorted(failed.items())}}
    for query, path in confidences.items():
        _write_query(chunks, query, set(kept), path, stamp)
    measured = [row for s in stamps.values() for row in s["performance"] if row[0] in set(kept)]
    frame = pd.DataFrame(measured, columns=["model", "split", "metric", "value"]).sort_values(
        ["model", "split", "metric"], ignore_index=True
    )
    write_table(performance, "performance", frame, stamp)
    return told


def _agree(stamps: dict[Path, dict[str, Any]]) -> None:
    """All chunks must come from one recipe and one state of the data."""
    (first_path, first), *others = stamps.items()
    for path, stamp in others:
        for key, name in (("recipe", "recipe"), ("data_hash", "state of the data")):
            if stamp[key] != first[key]:
                raise UserError(f"{path} comes from another {name} than {first_path}: delete it and run again")


def _write_query(chunks: list[Path], query: str, kept: set[int], path: Path, stamp: dict[str, Any]) -> None:
    written: list[int] = []
    with ConfidenceWriter(path, "confidences", {**stamp, "query": query}) as writer:
        for chunk in chunks:
            with opened(chunk, "chunk") as file:
                for group in range(file.num_row_groups):
                    heads = file.read_row_group(group, columns=["query", "model"])
                    model = int(heads.column("model")[0].as_py())
                    if heads.column("query")[0].as_py() != query or model not in kept:
                        continue
                    table = file.read_row_group(group, columns=["row", "member", "confidence"])
                    writer.add(
                        model,
                        table.column("row").to_numpy(),
                        table.column("member").to_numpy(zero_copy_only=False),
                        table.column("confidence").to_numpy(),
                    )
                    written.append(model)
        if not np.array_equal(written, sorted(kept)):
            missing = sorted(kept - set(written))
            raise UserError(
                f"the chunks hold no '{query}' answers of target model {missing[0] if missing else written}: "
                "delete the experiment's folder under results/targets and run again"
            )
