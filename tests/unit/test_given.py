"""Confidence tables from elsewhere: what is read is what was given, and every fault is one sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tailrisk.config.study import Tables
from tailrisk.errors import UserError
from tailrisk.stages.given import given
from tailrisk.tables import metadata, read_confidences, read_table

ROWS = [4, 7, 9, 30]


def tables(folder: Path, kind: str = "parquet", **changes) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Confidences of 4 models for 4 of 5 records, records and groups, written into `folder`."""
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {
            "model": np.repeat([0, 1, 2, 3], 4),
            "row": ROWS * 4,
            "member": rng.random(16) < 0.5,
            "confidence": rng.normal(size=16).astype(np.float32),
        }
    )
    records = pd.DataFrame(
        {"row": [30, 9, 7, 4, 1], "record": ["e", "c", "b", "a", "x"], "patient": ["3", "2", "1", "1", "9"]}
    )
    groups = pd.DataFrame(
        {"record": ["a", "b", "c", "e"], "sex": ["female", "female", None, "male"], "ward": [1, 2, 1, 1]}
    )
    for name, sound in {"confidences": scores, "records": records, "groups": groups}.items():
        frame = changes.get(name, lambda same: same)(sound)
        if kind == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet", index=False)
    return scores, records, groups


def read(folder: Path, kind: str = "parquet", groups: bool = True) -> list[str]:
    spec = Tables(
        confidences=str(folder / f"confidences.{kind}"),
        records=str(folder / f"records.{kind}"),
        groups=str(folder / f"groups.{kind}") if groups else None,
    )
    return given(spec, folder / "out.parquet", folder / "given")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_what_is_read_is_what_was_given(tmp_path: Path, kind: str, shuffled: bool) -> None:
    mixed = (lambda frame: frame.sample(frac=1, random_state=1)) if shuffled else (lambda frame: frame)
    scores, _, _ = tables(tmp_path, kind, confidences=mixed, groups=mixed)
    told = read(tmp_path, kind)
    assert len(told) == 1
    assert told[0].startswith("1 of 5 records in ")
    found = read_confidences(tmp_path / "out.parquet")
    assert found.rows.tolist() == [0, 1, 2, 3]
    assert found.models.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.confidence, scores["confidence"].to_numpy().reshape(4, 4), rtol=1e-6)
    assert np.array_equal(found.member, scores["member"].to_numpy().reshape(4, 4))
    assert found.loss is None
    records = read_table(tmp_path / "given" / "records.parquet", "records")
    assert records["record"].tolist() == ["a", "b", "c", "e"]
    assert records["patient"].tolist() == ["1", "1", "2", "3"]
    described = read_table(tmp_path / "given" / "groups.parquet", "groups")
    assert described["record"].tolist() == ["a", "b", "c", "e"]
    assert described["sex"].isna().tolist() == [False, False, True, False]
    assert described["ward"].tolist() == ["1", "2", "1", "1"]
    stamp = metadata(tmp_path / "out.parquet", "confidences")
    assert set(stamp["checksums"]) == {f"{name}.{kind}" for name in ("confidences", "records", "groups")}


def test_losses_and_lists_of_labels_come_along_and_groups_may_be_missing(tmp_path: Path) -> None:
    loss = np.linspace(0, 3, 16)
    lists = [["MI", "CD"], [], None, ["MI"]]
    tables(tmp_path, confidences=lambda f: f.assign(loss=loss), groups=lambda f: f.assign(finding=lists))
    read(tmp_path)
    np.testing.assert_allclose(read_confidences(tmp_path / "out.parquet").loss.ravel(), loss, rtol=1e-6)
    assert read_table(tmp_path / "given" / "groups.parquet", "groups")["finding"].tolist() == lists
    read(tmp_path, groups=False)
    assert list(read_table(tmp_path / "given" / "groups.parquet", "groups")) == ["record"]


def test_words_for_nothing_are_groups_of_a_csv_file(tmp_path: Path) -> None:
    tables(tmp_path, "csv", groups=lambda f: f.assign(a1c=["None", ">8", "", "NA"]))
    read(tmp_path, "csv")
    found = read_table(tmp_path / "given" / "groups.parquet", "groups")["a1c"]
    assert found.astype(object).where(found.notna(), "missing").tolist() == ["None", ">8", "missing", "NA"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    tables(tmp_path, "csv")
    path = tmp_path / "confidences.csv"
    lines = [f"{line},{line.rsplit(',', 1)[1]}" for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match="has several columns 'confidence'"):
        read(tmp_path, "csv")


def without(column: str):
    return lambda frame: frame.drop(columns=column)


def put(column: str, place: int, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.astype({column: object})
        frame.loc[place, column] = value
        return frame.astype({column: type(value)}) if isinstance(value, int | float) else frame

    return change


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("confidences", without("member"), "has no column 'member'; known: confidence, model, row"),
        ("confidences", put("confidence", 5, float("nan")), "column 'confidence' is (blank|not finite) in row 6"),
        ("confidences", put("confidence", 5, float("inf")), "column 'confidence' is not finite in row 6"),
        ("confidences", put("model", 2, -1), "column 'model' is not between 0 and 32766 in row 3"),
        ("confidences", put("row", 2, 1.5), "column 'row' holds double values: give whole numbers"),
        ("confidences", put("member", 2, 7), "column 'member' must be true or false, or 1 or 0"),
        ("confidences", lambda f: f.assign(loss=-1.0), "column 'loss' is negative in row 1: it is −log p"),
        ("confidences", lambda f: f.drop(index=6), "model 1 has no confidence for row 9, which other models have"),
        ("confidences", lambda f: pd.concat([f, f[6:7]]), "model 1 has row 9 more than once"),
        ("confidences", lambda f: f[:0], "has no rows"),
        ("confidences", put("confidence", 5, 3e38), "column 'confidence' is beyond ±1e[+]09 in row 6"),
        (
            "records",
            lambda f: f.assign(patient=[1.0, 2.0, 3.0, 4.0, 5.0]),
            "column 'patient' holds numbers with a fraction",
        ),
        ("records", without("patient"), "has no column 'patient'"),
        ("records", put("patient", 1, None), "column 'patient' is blank in row 2"),
        ("records", put("row", 1, 30), "column 'row' holds a value a second time in row 2"),
        ("records", put("record", 2, "c"), "column 'record' holds a value a second time in row 3"),
        ("records", lambda f: f.drop(index=1), "lacks row 9, for which there are confidences"),
        ("groups", without("record"), "has no column 'record'"),
        ("groups", put("record", 1, "a"), "names a record twice in row 2"),
        ("groups", lambda f: f.drop(index=1), "has no row for 1 of the 4 audited records"),
        ("groups", lambda f: f.rename(columns={"sex": "auc_joint"}), "a group column cannot be called 'auc_joint'"),
    ],
)
def test_every_fault_is_one_sentence(tmp_path: Path, table: str, change, message: str) -> None:
    tables(tmp_path, **{table: change})
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path)
    assert str(tmp_path / f"{table}.parquet") in str(error.value)
    assert not (tmp_path / "out.parquet").exists()


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    tables(tmp_path)
    (tmp_path / "confidences.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"cannot read the table .*confidences\.parquet"):
        read(tmp_path)
    (tmp_path / "confidences.parquet").unlink()
    with pytest.raises(UserError, match=r"cannot read the table .*confidences\.parquet"):
        read(tmp_path)
