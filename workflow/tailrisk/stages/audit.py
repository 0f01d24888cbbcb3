"""The audit stage: from one confidence table to the tables of risk."""

from pathlib import Path
from typing import Any

from tailrisk.audit.audit import AuditOptions, run_audit
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
    described = read_table(groups, "groups").iloc[scores.rows].drop(columns="record").reset_index(drop=True)
    if variables is not None:
        described = described[[variable for variable in described if variable in variables]]
    result = run_audit(
        scores.confidence,
        scores.member,
        audited[["record", "patient"]].reset_index(drop=True),
        described,
        AuditOptions(**options | {"thresholds": tuple(options["thresholds"])}),
        seed,
    )
    carried = {key: stamp[key] for key in ("recipe", "data_hash", "capacity", "n_models", "failed")}
    for kind in ("records", "patients", "survival", "aggregate", "subgroups"):
        write_table(folder / f"{kind}.parquet", f"audit_{kind}", getattr(result, kind), carried)
    experiment, query = name
    failed = sorted({int(model) // 2 for model in stamp["failed"]})
    summary = {"experiment": experiment, "query": query, "capacity": stamp["capacity"], "failed_pairs": len(failed)}
    write_json(folder / "summary.json", summary | result.summary)
