"""Pseudonyms under which every result stays the same, files compared, and what cannot be packed or built again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.config.load import parse
from tailrisk.config.plan import Plan
from tailrisk.config.study import Study
from tailrisk.errors import UserError
from tailrisk.stages.artefact import SUMS, artefact, checked
from tailrisk.stages.differences import difference
from tailrisk.stages.packed import is_made, packed, with_ids
from tailrisk.stages.pseudonyms import Pseudonyms
from tailrisk.stages.verify import Damage, commands, damaged_results
from tailrisk.tables import read_table, write_json, write_table

RECIPE = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}
RNG = np.random.default_rng(5)
STUDY = {
    "n_models": 8,
    "datasets": {"bc": {"source": "breast_cancer"}, "sim": {"source": "simulated"}},
    "models": {"lr": {"architecture": "logistic"}, "net": {"architecture": "tabular_resnet", "width": 4, "depth": 1}},
    "queries": {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean radius"]}},
    "experiments": {
        "size": {"datasets": ["bc", "sim"], "models": ["lr", "net"], "recipe": RECIPE, "queries": "clean"},
        "part": {"datasets": "bc", "models": "lr", "recipe": RECIPE},
        "given": {"confidences": "c.csv", "records": "r.csv", "pairing": "unknown"},
    },
}


def study(**changes) -> Study:
    return parse(Study, STUDY | changes, "study")


@pytest.fixture
def table(tmp_path) -> Path:
    """records.parquet of 40 patients with two records each, whose ids are not in the order of the rows."""
    numbers = RNG.permutation(80)
    records = pd.DataFrame({"record": [f"rec-{n * 37 % 997}" for n in numbers], "split": "audit"})
    records["patient"] = [f"pat{(n // 2) * 61 % 101}" for n in range(80)]
    write_table(tmp_path / "records.parquet", "records", records)
    groups = records[["record"]].assign(unit=RNG.choice(["a", "b", "c"], 80))
    write_table(tmp_path / "groups.parquet", "groups", groups, {"made": "here"})
    return tmp_path


def test_pseudonyms_keep_the_order_and_everything_else(table) -> None:
    names = Pseudonyms(table / "records.parquet")
    for kind in ("records", "groups"):
        (table / "new.parquet").write_bytes(names.replaced(table / f"{kind}.parquet"))
        old, new = (pq.ParquetFile(table / f"{name}.parquet").read() for name in (kind, "new"))
        assert new.schema.equals(old.schema, check_metadata=True)
        for column in old.column_names:
            before, after = (pd.Series(each.column(column).to_pylist()) for each in (old, new))
            if column in {"record", "patient"}:
                assert after.str.fullmatch(r"[rp]\d{2}").all()
                np.testing.assert_array_equal(*(np.unique(each, return_inverse=True)[1] for each in (before, after)))
            else:
                assert before.equals(after)


def test_the_audit_of_pseudonyms_is_the_audit_of_ids_bit_for_bit(table) -> None:
    """Many records are equally at risk, so that the order of ties decides who is in the tail."""
    member = RNG.random((6, 40)) < 0.5
    member = np.stack([side for half in member for side in (half, ~half)]).repeat(2, axis=1)
    confidence = np.round(member + RNG.normal(size=12)[:, None], 1).astype(np.float32)
    (table / "new.parquet").write_bytes(Pseudonyms(table / "records.parquet").replaced(table / "records.parquet"))
    (table / "new_groups.parquet").write_bytes(Pseudonyms(table / "records.parquet").replaced(table / "groups.parquet"))
    options = AuditOptions(flips=99, tail=0.1, permutations=99)
    one, other = (
        run_audit(confidence, member, read_table(table / r, "records"), read_table(table / g, "groups"), options, 1)
        for r, g in (("records.parquet", "groups.parquet"), ("new.parquet", "new_groups.parquet"))
    )
    assert one.summary == other.summary
    assert one.records["auc"].nunique() < 60
    for kind in ("records", "patients", "survival", "aggregate", "subgroups", "models"):
        frames = [getattr(each, kind).drop(columns=["record", "patient"], errors="ignore") for each in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_an_id_that_the_dataset_has_not_is_not_packed_and_not_told(table) -> None:
    records = read_table(table / "records.parquet", "records")
    write_table(table / "groups.parquet", "groups", records[["record"]].replace("rec-0", "secret"))
    with pytest.raises(UserError, match=r"has a record that its dataset has not") as told:
        Pseudonyms(table / "records.parquet").replaced(table / "groups.parquet")
    assert "secret" not in str(told.value)


def test_what_is_packed_of_a_study() -> None:
    plan = Plan(study())
    names = packed(plan)
    assert len(names) == len(set(names))
    made = [name for name in names if is_made(name)]
    given = sorted(set(names) - set(made))
    assert "results/confidences/given/given.parquet" in given
    assert "results/datasets/bc/card.json" in given
    assert "results/compare/access/part.bc.lr.parquet" in made
    assert "results/figures/compare/size.bc.clean/capacity.svg" in made
    assert not [name for name in names if name.endswith(".npy") or "excluded" in name or "duplicates.parquet" in name]
    secret = with_ids(plan)
    assert set(secret) <= set(names)
    assert secret["results/audit/part.bc.lr/part/patients.parquet"] == "results/datasets/bc"
    assert secret["results/audit/given/given/records.parquet"] == "results/given/given"


def test_pictures_of_inputs_are_packed_only_where_the_study_shows_them() -> None:
    for shown in (False, True):
        one = study(
            datasets={"x": {"source": "nih_chestxray14", "path": "nih", "show_inputs": shown}},
            models={"wrn": {"architecture": "wide_resnet", "depth": 10, "width": 1}},
            experiments={"size": {"datasets": "x", "models": "wrn", "recipe": RECIPE}},
            queries={"clean": {"kind": "clean"}},
        )
        assert ("results/figures/datasets/x/inputs.svg" in packed(Plan(one))) == shown
        assert not is_made("results/figures/datasets/x/inputs.svg")


def test_a_study_without_results_is_not_packed(tmp_path, repository) -> None:
    with pytest.raises(UserError, match=r"aggregate\.parquet and \d+ more are missing: run the workflow"):
        artefact(study(), tmp_path / "results", repository, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_files_that_differ(tmp_path) -> None:
    def frames(**columns) -> float | None:
        frame = pd.DataFrame({"model": 0, "split": "test", "metric": "auroc", "value": [0.5, 0.25, np.nan]})
        write_table(tmp_path / "a.parquet", "performance", frame)
        write_table(tmp_path / "b.parquet", "performance", frame.assign(**columns))
        return difference(tmp_path / "a.parquet", tmp_path / "b.parquet")

    assert frames() is None
    assert frames(value=[0.5, 0.2, np.nan]) == pytest.approx(0.2)
    assert frames(value=[0.5, np.nextafter(0.25, 1), np.nan]) == pytest.approx(2.2e-16, rel=0.01)
    assert frames(value=[0.5, 0.25, 0.1]) == np.inf
    assert frames(metric="auc") == np.inf
    assert frames(split=["test", "test", "audit"]) == np.inf
    assert frames(model=[0, 0, 4]) == 1

    def values(one: object, other: object) -> float | None:
        write_json(tmp_path / "a.json", one)
        write_json(tmp_path / "b.json", other)
        return difference(tmp_path / "a.json", tmp_path / "b.json")

    assert values({"a": [1, "x"]}, {"a": [1, "x"]}) is None
    assert values({"a": [1, 2.0, "x"]}, {"a": [1, 2.5, "x"]}) == pytest.approx(0.2)
    assert values({"a": [1, "x"]}, {"a": [1, "y"]}) == np.inf
    assert values({"a": [1]}, {"a": [1, 2]}) == np.inf
    assert values({"a": 1}, {"b": 1}) == np.inf
    assert values([1], [None]) == np.inf

    page = '<p>{}</p><section id="provenance"><h2>{}</h2></section><footer>'
    for name, text in (("a", page.format("x", 1)), ("b", page.format("x", 2)), ("c", page.format("y", 1))):
        (tmp_path / f"{name}.html").write_text(text)
    assert difference(tmp_path / "a.html", tmp_path / "b.html") is None
    assert difference(tmp_path / "a.html", tmp_path / "c.html") == np.inf
    assert difference(tmp_path / "a.html", tmp_path / "d.html") == np.inf


def test_an_artefact_that_is_not_whole(tmp_path) -> None:
    with pytest.raises(UserError, match="has no SHA256SUMS: name the folder of an unpacked artefact"):
        list(checked(tmp_path))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / SUMS).write_text(f"{empty}  x/y\n")
    with pytest.raises(UserError, match="x/y is missing: unpack"):
        list(checked(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "x/y").write_bytes(b"")
    assert list(checked(tmp_path)) == ["x/y"]
    (tmp_path / "x/y").write_bytes(b"1")
    with pytest.raises(UserError, match="x/y is not what was packed"):
        list(checked(tmp_path))


def test_damaged_provenance_is_told(tmp_path) -> None:
    path = tmp_path / "results/provenance/a.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"outputs": {"results/x": ')
    (damage,) = damaged_results(tmp_path / "results")
    assert damage.path == path
    assert damage.target is None
    assert commands([damage], tmp_path / "results", removed=True) == []
    gone = Damage(tmp_path / "results/x y", "is missing", "results/x y")
    assert commands([damage, gone], tmp_path / "results", removed=False) == [
        f"rm {path}",
        f"snakemake --directory {tmp_path} 'results/x y'",
    ]


def test_the_code_of_ones_own_model_is_packed_where_the_study_names_it(tmp_path) -> None:
    from tailrisk.stages.artefact import _study

    (tmp_path / "nets/deep").mkdir(parents=True)
    for name in ("nets/small.py", "nets/deep/__init__.py", "beside.py", "other/unused.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("def network(): ...\n")
    models = {"own": {"architecture": "custom", "function": "nets.small:network", "path": str(tmp_path)}}
    entry = {"mine": {"datasets": "bc", "models": "own", "recipe": RECIPE, "queries": "clean"}}
    contents = _study(study(models=models, experiments=entry))
    assert set(contents) == {
        "models/own/nets/small.py",
        "models/own/nets/deep/__init__.py",
        "models/own/beside.py",
        "study.yaml",
    }
    text = contents["study.yaml"]
    assert isinstance(text, bytes)
    assert str(tmp_path) not in text.decode()
