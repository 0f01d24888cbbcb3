"""One source all the way: prepared, described, two pairs of models trained, gathered and audited."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from small_jobs import chunk, recipe

from tailrisk.config.architectures import Logistic, ResNet1D, WideResNet
from tailrisk.config.sources import FileSource, Source
from tailrisk.config.study import Audit, Subgroups
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.datasets.groups import groups
from tailrisk.datasets.prepare import DECODING, prepare
from tailrisk.stages.audit import TABLES, audit
from tailrisk.stages.gather import gather
from tailrisk.tables import read_json, read_table

MODELS = {
    "table": Logistic(architecture="logistic"),
    "image": WideResNet(architecture="wide_resnet", depth=10, width=1),
    "signal": ResNet1D(architecture="resnet1d", width=16),
}


@dataclass(frozen=True)
class Run:
    """What a source became: folder of the prepared dataset, its parts, and the tables of the audit by name."""

    folder: Path
    card: dict[str, Any]
    records: pd.DataFrame
    excluded: pd.DataFrame
    groups: pd.DataFrame
    prepared: Prepared
    audit: dict[str, pd.DataFrame]

    def record(self, name: str) -> int:
        """Row of a record."""
        return int(np.flatnonzero(self.records["record"] == name)[0])

    def reason(self, name: str) -> str:
        """Why a row of the source is no record."""
        return str(self.excluded.set_index("record").loc[name, "reason"])


def end_to_end(spec: Source, folder: Path) -> Run:
    """Prepare `spec` below `folder` and audit two pairs of small models; checks what holds for every source."""
    dataset, results = folder / "dataset", folder / "results"
    prepare("x", spec, dataset)
    groups(spec, dataset)
    table, _ = chunk(
        dataset, results, range(4), recipe=recipe(MODELS[spec.form], epochs=1, batch_size=32, learning_rate=0.003)
    )
    confidences = results / "clean.parquet"
    gather([table], 4, "clean", confidences, 0)
    options = Audit(flips=99).model_dump(mode="json") | Subgroups(permutations=99, tail=0.1).model_dump(mode="json")
    paths = (confidences, dataset / "records.parquet", dataset / "groups.parquet", results / "audit")
    audit(*paths, ("x", "clean"), "complementary", options | {"seed": 1}, 1)

    card, records = read_json(dataset / "card.json"), read_table(dataset / "records.parquet", "records")
    excluded = read_table(dataset / "excluded.parquet", "excluded")
    described = read_table(dataset / "groups.parquet", "groups")
    prepared = open_prepared(dataset)
    assert card["rows"] == card["n_records"] + sum(card["excluded"].values()) + sum(card["quarantined"].values())
    assert len(excluded) == card["rows"] - card["n_records"]
    assert len(records) == len(described) == len(prepared.inputs) == card["n_records"]
    assert described["record"].tolist() == records["record"].tolist()
    assert records.groupby("patient")["split"].nunique().max() == 1
    assert not (dataset / DECODING).exists() or not isinstance(spec, FileSource)
    audited = {name: read_table(results / "audit" / f"{name}.parquet", f"audit_{name}") for name in TABLES}
    assert len(audited["records"]) == (records["split"] == "audit").sum()
    assert set(audited["patients"]["patient"]) == set(records.loc[records["split"] == "audit", "patient"])
    assert np.isfinite(audited["records"]["auc"]).all()
    return Run(dataset, card, records, excluded, described, prepared, audited)
