"""Tables between stages: round trips, atomic writes, and what is said of damaged ones."""

import numpy as np
import pandas as pd
import pytest

from tailrisk.config.sources import RESERVED
from tailrisk.errors import UserError
from tailrisk.tables import (
    SCHEMAS,
    ConfidenceWriter,
    metadata,
    read_confidences,
    read_json,
    read_table,
    replacing,
    write_json,
    write_table,
)


def small_table(path, n_models: int = 4, n_rows: int = 7) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((n_models, n_rows)).astype(np.float32)
    rows = np.arange(n_rows, dtype=np.int32) * 2
    with ConfidenceWriter(path, "confidences", {"capacity": 3}) as writer:
        for model in range(n_models):
            writer.add(model, rows, rows % 4 == 2 * (model % 2), values[model])
    return values


def test_confidences_open_as_a_matrix(tmp_path) -> None:
    path = tmp_path / "deep" / "clean.parquet"
    values = small_table(path)
    table = read_confidences(path)
    assert np.array_equal(table.confidence, values)
    assert table.models.tolist() == [0, 1, 2, 3]
    assert table.rows.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert np.array_equal(table.member[0], ~table.member[1])
    assert metadata(path, "confidences")["capacity"] == 3
    frame = pd.read_parquet(path)  # a plain long table for everyone else
    assert np.array_equal(frame["confidence"].to_numpy().reshape(4, 7), values)


def test_a_failed_write_leaves_what_was_there(tmp_path) -> None:
    path = tmp_path / "clean.parquet"
    small_table(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), ConfidenceWriter(path, "confidences", {}) as writer:
        writer.add(0, np.arange(3, dtype=np.int32), np.ones(3, bool), np.zeros(3, np.float32))
        raise RuntimeError("killed")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["clean.parquet"]


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_damaged_tables_are_named(tmp_path, keep: float) -> None:
    path = tmp_path / "clean.parquet"
    small_table(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"clean\.parquet is not a readable Parquet file .*delete it and run again"):
        read_confidences(path)


def test_missing_and_foreign_tables_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match="is missing"):
        read_table(tmp_path / "absent.parquet", "records")
    small_table(tmp_path / "clean.parquet")
    with pytest.raises(UserError, match="lacks the column 'record'"):
        read_table(tmp_path / "clean.parquet", "records")


def test_ids_stay_strings_and_groups_may_follow(tmp_path) -> None:
    frame = pd.DataFrame({"record": ["01", "2"], "sex": ["f", None]})
    write_table(tmp_path / "groups.parquet", "groups", frame, {"note": 1})
    back = read_table(tmp_path / "groups.parquet", "groups")
    assert back["record"].tolist() == ["01", "2"]
    assert back["sex"].isna().tolist() == [False, True]
    assert metadata(tmp_path / "groups.parquet", "groups")["note"] == 1


def test_groups_of_several_labels_come_back_as_lists(tmp_path) -> None:
    frame = pd.DataFrame({"record": ["1", "2", "3"], "finding": [["MI", "CD"], [], None]})
    write_table(tmp_path / "groups.parquet", "groups", frame)
    assert read_table(tmp_path / "groups.parquet", "groups")["finding"].tolist() == [["MI", "CD"], [], None]


def test_losses_come_back_where_there_are_any(tmp_path) -> None:
    rows = np.arange(3, dtype=np.int32)
    with ConfidenceWriter(tmp_path / "c.parquet", "confidences", {}, losses=True) as writer:
        for model in (0, 1):
            values = np.linspace(model, 2, 3).astype(np.float32)
            writer.add(model, rows, rows % 2 == model, values, loss=values + 1)
    found = read_confidences(tmp_path / "c.parquet")
    assert found.loss is not None
    assert np.array_equal(found.loss, found.confidence + 1)
    small_table(tmp_path / "without.parquet")
    assert read_confidences(tmp_path / "without.parquet").loss is None


def test_no_group_can_take_the_name_of_a_patients_column() -> None:
    assert set(SCHEMAS["audit_patients"].names) <= RESERVED


def test_equal_tables_are_equal_files(tmp_path) -> None:
    for name in ("a", "b"):
        small_table(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_json(tmp_path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, None]}
    (tmp_path / "a.json").write_text('{"x": ')
    with pytest.raises(UserError, match="damaged"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise ValueError
    assert (tmp_path / "a.json").read_text() == '{"x": '
