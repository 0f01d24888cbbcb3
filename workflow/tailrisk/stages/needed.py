"""How many target models a question needs, before they are trained."""

from pathlib import Path

from tailrisk.audit.planning import (
    discovery_level,
    flip_power,
    pairs_for_observed_error,
    pairs_for_power,
    pairs_for_standard_error,
)
from tailrisk.errors import UserError
from tailrisk.tables import read_json, read_table


def models_needed(
    auc: float,
    se: float | None,
    power: float | None,
    patients: int | None,
    records: int,
    fdr: float,
    audit: Path | None,
) -> list[str]:
    """One sentence for each aim: a standard error `se` at an AUC, a `power` to find one patient of that AUC.

    patients: how many are audited, which sets the p-value that one of them must reach; records: of that patient;
    audit: folder of a finished audit, whose records then say what the standard errors are and who is audited. UserError
    for aims that cannot be reached or stated.
    """
    if se is None and power is None:
        raise UserError("state what is to be reached: --se, --power, or both")
    told = []
    summary = None if audit is None else read_json(audit / "summary.json")
    if summary is not None:
        patients = patients or int(summary["patients"])
    if se is not None:
        pairs = pairs_for_standard_error(se, auc)
        told.append(
            f"{2 * pairs} target models: a standard error of at most {se:g} for a record with an AUC of {auc:g}"
        )
        if audit is not None and summary is not None:
            observed = read_table(audit / "records.parquet", "audit_records", ["auc_se"])["auc_se"].to_numpy()
            pairs = pairs_for_observed_error(se, observed, int(summary["pairs"]))
            told.append(f"{2 * pairs} target models: the same on average over the records audited in {audit}")
    if power is not None:
        if patients is None:
            raise UserError("a power needs --patients, the number of audited patients, or --audit, a finished audit")
        level = discovery_level(fdr, patients) / records
        pairs = pairs_for_power(power, auc, level)
        of = "one record" if records == 1 else f"{records} records"
        chance = float(flip_power(auc, pairs, level))
        told.append(
            f"{2 * pairs} target models: a patient with {of} and a true AUC of {auc:g}, alone at risk among "
            f"{patients:,}, is found with a probability of {chance:.2f} (a false discovery rate "
            f"of {fdr:g} asks for p ≤ {level:.1g} of a single one; where many are at risk, fewer models do)"
        )
    return told
