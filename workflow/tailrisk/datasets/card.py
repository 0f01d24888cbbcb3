"""The card of a prepared dataset: what it is, what was left out and why, and the hashes that identify it."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.datasets.contract import SPLITS, Dataset, data_hash
from tailrisk.datasets.decode import Faults


def card(
    name: str, dataset: Dataset, records: pd.DataFrame, inputs: NDArray[Any], labels: NDArray[Any], faults: Faults
) -> dict[str, Any]:
    """card.json of the dataset `name`; `records`, `inputs` and `labels` are without the rows of `faults`.

    `rows` of the source's main table are `n_records` and what `excluded` (from the cohort) and `quarantined` (for
    their files) count. `expected` holds, for each count that the literature gives, that and the one found here.
    """
    by_split = {
        split: {
            "records": len(part),
            "patients": int(part["patient"].nunique()),
            "classes": _counts(dataset, labels[part.index]),
        }
        for split, part in records.groupby("split", observed=True)
    }
    per_patient = records["patient"].value_counts()
    controls = records.loc[records["control"], "patient"].nunique() if "control" in records else 0
    return {
        "name": name,
        "title": dataset.title,
        "task": dataset.task,
        "n_outputs": 1 if dataset.task == "binary" else len(dataset.classes),
        "rows": len(dataset.record) + len(dataset.excluded),
        "excluded": _tally(dataset.excluded["reason"].tolist()),
        "quarantined": _tally([reason for reason, _ in faults.values()]),
        "expected": expected(dataset),
        "n_records": len(records),
        "n_patients": len(per_patient),
        "patients_with_several_records": int((per_patient > 1).sum()),
        "most_records_of_a_patient": int(per_patient.max()),
        "records_per_patient": {str(n): int(count) for n, count in per_patient.value_counts().sort_index().items()},
        "splits": {split: by_split[split] for split in SPLITS},
        "controls": int(controls),
        "classes": _counts(dataset, labels),
        "input_shape": list(inputs.shape[1:]),
        "features": len(dataset.features),
        "feature_names": dataset.features,
        "preprocessing": dataset.preprocessing,
        "licence": dataset.licence,
        "source": dataset.where,
        "checksums": dataset.checksums,
        "data_hash": data_hash(records, inputs, labels, dataset.features),
    }


def in_short(name: str, card: dict[str, Any]) -> str:
    """A line on a prepared dataset: its records, and what was left out."""
    cohort, unfit = sum(card["excluded"].values()), sum(card["quarantined"].values())
    line = f"{name}: {card['n_records']:,} records of {card['n_patients']:,} patients"
    line += f"; {cohort:,} rows are not of the cohort" if cohort else ""
    line += f"; {unfit:,} left out as their files cannot be used" if unfit else ""
    return f"{line}: see excluded.parquet" if cohort or unfit else line


def expected(dataset: Dataset) -> list[dict[str, Any]]:
    """Counts of the complete source in the literature beside those of the source at hand, before any quarantine."""
    found = {
        "rows": len(dataset.record) + len(dataset.excluded),
        "records": len(dataset.record),
        "patients": len(np.unique(dataset.patient.astype(str))),
        **{f"class {name}": count for name, count in _counts(dataset, dataset.labels).items()},
    }
    return [{"what": what, "expected": count, "found": found[what]} for what, count in dataset.expected.items()]


def _counts(dataset: Dataset, labels: NDArray[Any]) -> dict[str, int]:
    if dataset.task == "multilabel":
        return {name: int(np.nansum(labels[:, number])) for number, name in enumerate(dataset.classes)}
    return {name: int((labels == number).sum()) for number, name in enumerate(dataset.classes)}


def _tally(reasons: list[str]) -> dict[str, int]:
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
