"""The audit stage: from one confidence table to the tables of risk."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.audit.design import Design
from tailrisk.config.base import suggestion
from tailrisk.errors import UserError
from tailrisk.tables import Confidences, metadata, read_confidences, read_table, write_json, write_table

TABLES = ("records", "patients", "survival", "aggregate", "subgroups", "models")


def audit(
    confidences: Path,
    records: Path,
    groups: Path,
    folder: Path,
    name: tuple[str, str],
    design: Design,
    options: dict[str, Any],
    threads: int,
) -> None:
    """Write the TABLES, each as a Parquet file, and summary.json of (experiment, query).

    `options`: the fields of AuditOptions and the `seed`.
    """
    options = dict(options)
    seed = options.pop("seed")
    scores = read_confidences(confidences)
    stamp = metadata(confidences, "confidences")
    everyone = read_table(records, "records")
    if len(scores.rows) and int(scores.rows.max()) >= len(everyone):
        raise UserError(f"{confidences} names rows that {records} does not have: delete it and run again")
    audited = everyone.iloc[scores.rows]
    described = read_table(groups, "groups")
    options["within"] = _there(described, options["within"], "within", groups)
    options["unknown_as_group"] = _there(described, options["unknown_as_group"], "unknown_as_group", groups)
    if options["variables"] is not None:
        options["variables"] = _there(described, options["variables"], "variables", groups)
    result = run_audit(
        scores.confidence,
        scores.member,
        audited[["record", "patient"]].reset_index(drop=True),
        described,
        AuditOptions(**options),
        seed,
        design,
        log_likelihood(scores, stamp.get("task")),
        threads,
    )
    # A table from elsewhere carries no stamp of a training.
    carried = {key: stamp.get(key) for key in ("recipe", "data_hash", "capacity", "n_models", "failed")}
    for kind in TABLES:
        write_table(folder / f"{kind}.parquet", f"audit_{kind}", getattr(result, kind), carried)
    experiment, query = name
    failed = {int(model) // 2 for model in stamp.get("failed", {})}
    summary = {"experiment": experiment, "query": query, "capacity": carried["capacity"], "failed_pairs": len(failed)}
    write_json(folder / "summary.json", summary | result.summary)


def log_likelihood(scores: Confidences, task: str | None) -> Callable[[int], NDArray[np.float32]] | None:
    """log p of the true label by target model: from the table's losses, or for one label from the confidences.

    None where neither says it: a table from elsewhere need not hold log odds of its own models' probabilities.
    """
    if scores.loss is not None:
        loss = scores.loss
        return lambda model: -loss[model]
    if task in ("binary", "multiclass"):
        return lambda model: -np.logaddexp(np.float32(0), -scores.confidence[model])
    return None


def _there(described: pd.DataFrame, wanted: list[str], key: str, path: Path) -> list[str]:
    """Those of the wanted variables that this dataset has; UserError for what looks like a slip of the pen."""
    known = [str(name) for name in described if name != "record"]
    for variable in wanted:
        near = difflib.get_close_matches(variable, known, n=1)
        lost = key == "variables" and not set(wanted) & set(known)
        if variable not in known and variable != "label" and (near or lost):  # which is asked for by default
            raise UserError(f"subgroups.{key}: {path} has no variable '{variable}'; {suggestion(variable, known)}")
    return [variable for variable in wanted if variable in known]
