"""Real chest radiographs and ECGs through the whole workflow: networks, augmented views and partial access."""

import numpy as np
import pytest
from small_study import Workflow

from tailrisk.tables import metadata, read_confidences, read_table

RECIPE = {"epochs": 2, "batch_size": 32, "learning_rate": 0.003, "decay": "weights", "clip": 1.0}


@pytest.fixture(scope="module")
def imaging(tmp_path_factory, repository, open_data) -> Workflow:
    nih = {"path": str(open_data / "nih_chestxray14_subset"), "table": "Data_Entry_2017_v2020_subset.csv"}
    study = {
        "n_models": 6,
        "chunk_size": 3,
        "datasets": {
            "xray": {"source": "nih_chestxray14", "size": 16, **nih},
            "ecg": {"source": "ptbxl", "path": str(open_data / "ptbxl_subset")},
        },
        "models": {
            "wrn": {"architecture": "wide_resnet", "depth": 10, "width": 1},
            "resnet": {"architecture": "resnet1d", "width": 16},
        },
        "queries": {
            "clean": {"kind": "clean"},
            "views": {"kind": "augmented", "views": 2},
            "left": {"kind": "redacted", "known_region": [0, 0, 1, 0.5], "fill": "median"},
            "lead-one": {"kind": "redacted", "known": ["I"], "fill": "donor"},
        },
        "experiments": {
            "image": {
                "datasets": "xray",
                "models": "wrn",
                "queries": ["clean", "views", "left"],
                "recipe": RECIPE | {"augmentation": "medium", "ema": 0.9},
            },
            "signal": {
                "datasets": "ecg",
                "models": "resnet",
                "queries": ["clean", "lead-one"],
                "recipe": RECIPE | {"epochs": 1, "augmentation": "ecg"},
            },
        },
        "audit": {"flips": 99},
        "subgroups": {"permutations": 99},
    }
    workflow = Workflow(tmp_path_factory.mktemp("imaging"), repository, study)
    workflow.run()
    return workflow


def test_every_query_has_its_table(imaging) -> None:
    results = imaging.folder / "results"
    found = {
        query: read_confidences(results / f"confidences/image.xray.wrn/{query}.parquet")
        for query in ("clean", "views", "left")
    }
    for table in found.values():
        assert table.models.tolist() == list(range(6))
        assert np.isfinite(table.confidence).all()
        assert np.array_equal(table.member, found["clean"].member)
    assert not np.array_equal(found["left"].confidence, found["clean"].confidence)
    assert np.corrcoef(found["views"].confidence.ravel(), found["clean"].confidence.ravel())[0, 1] > 0.5
    assert metadata(results / "confidences/signal.ecg.resnet/lead-one.parquet", "confidences")["capacity"] > 30_000


def test_access_is_compared_on_the_same_patients(imaging) -> None:
    table = read_table(imaging.folder / "results/compare/access/image.xray.wrn.parquet", "access")
    assert set(table["query"]) == {"clean", "views", "left"}
    assert table["n"].nunique() == 1
    page = (imaging.folder / "results/report.html").read_text()
    assert "What the attacker knows" in page
    assert "only lead I" in page


def test_nothing_is_left_to_do_and_no_checkpoint_stays(imaging) -> None:
    assert imaging.planned() == {}
    assert not list((imaging.folder / "results").rglob("checkpoint.pt"))
