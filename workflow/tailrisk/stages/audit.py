"""The audit stage: from one confidence table to the tables of risk."""

import difflib
from pathlib import Path
from typing import Any

import pandas as pd

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.config.base import suggestion
from tailrisk.errors import UserError
from tailrisk.tables import metadata, read_confidences, read_table, write_json, write_table


def audit(
    confidences: Path,
    records: Path,
    groups: Path,
    folder: Path,
    name: tuple[str, str],
    options: dict[str, Any],
) -> None:
    """Write records, patients, survival, aggregate and subgroups.parquet and summary.json of (experiment, query).

    `options`: the fields of AuditOptions, the group `variables` to test (None: all) and the `seed`.
    """
    options = dict(options)
    variables, seed = options.pop("variables"), options.pop("seed")
    scores = read_confidences(confidences)
    stamp = metadata(confidences, "confidences")
    everyone = read_table(records, "records")
    if len(scores.rows) and int(scores.rows.max()) >= len(everyone):
        raise UserError(f"{confidences} names rows that {records} does not have: delete it and run again")
    audited = everyone.iloc[scores.rows]
    described = _chosen(read_table(groups, "groups"), variables, groups)
    result = run_audit(
        scores.confidence,
        scores.member,
        audited[["record", "patient"]].reset_index(drop=True),
        described,
        AuditOptions(**options | {"thresholds": tuple(options["thresholds"])}),
        seed,
    )
    # A table from elsewhere carries no stamp of a training.
    carried = {key: stamp.get(key) for key in ("recipe", "data_hash", "capacity", "n_models", "failed")}
    for kind in ("records", "patients", "survival", "aggregate", "subgroups"):
        write_table(folder / f"{kind}.parquet", f"audit_{kind}", getattr(result, kind), carried)
    experiment, query = name
    failed = {int(model) // 2 for model in stamp.get("failed", {})}
    summary = {"experiment": experiment, "query": query, "capacity": carried["capacity"], "failed_pairs": len(failed)}
    write_json(folder / "summary.json", summary | result.summary)


def _chosen(described: pd.DataFrame, variables: list[str] | None, path: Path) -> pd.DataFrame:
    """The group variables to test. One that this dataset lacks is left out, unless it looks like a slip of the pen."""
    if variables is None:
        return described
    known = [str(name) for name in described if name != "record"]
    for variable in variables:
        near = difflib.get_close_matches(variable, known, n=1)
        if variable not in known and (near or not set(variables) & set(known)):
            raise UserError(f"subgroups.variables: {path} has no variable '{variable}'; {suggestion(variable, known)}")
    return described[["record", *(name for name in known if name in variables)]]
