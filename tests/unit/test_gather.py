"""Gathering chunks: failed pairs, wrong chunks, and what the tables carry."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from tailrisk.cli import main
from tailrisk.errors import UserError
from tailrisk.stages.gather import gather, performance
from tailrisk.tables import ConfidenceWriter, metadata, read_confidences, read_table

ROWS = np.array([0, 2, 5], dtype=np.int32)


def chunk(path, models, failed: dict[int, str] | None = None, **stamp) -> None:
    """A chunk with two queries; a model's confidences are its number plus the row, twice that for `other`."""
    failed = failed or {}
    done = [model for model in models if model not in failed]
    base = {"recipe": {"seed": 1}, "data_hash": "d", "capacity": 9}
    base["performance"] = [[model, "test", "auroc", 0.5 + model / 100] for model in done]
    base["retried"] = []
    base["failed"] = {str(model): reason for model, reason in failed.items()}
    with ConfidenceWriter(path, "chunk", base | stamp) as writer:
        for model in done:
            for factor, query in ((1, "clean"), (2, "other")):
                member = (ROWS + model) % 2 == 0
                writer.add(model, ROWS, member, (factor * (ROWS + model)).astype(np.float32), query)


def run(tmp_path, n_models: int = 8, allowed: int = 1, queries=("clean", "other")) -> list[str]:
    chunks = sorted(tmp_path.glob("*-*.parquet"), key=lambda path: int(path.stem.split("-")[0]))
    for query in queries:
        gather(chunks, n_models, query, tmp_path / f"{query}.parquet", allowed)
    return performance(chunks, n_models, tmp_path / "performance.parquet", allowed)


def test_chunks_join_in_order(tmp_path) -> None:
    chunk(tmp_path / "0-4.parquet", range(5))
    chunk(tmp_path / "5-11.parquet", range(5, 12))
    assert run(tmp_path, 12) == []
    for factor, query in ((1, "clean"), (2, "other")):
        table = read_confidences(tmp_path / f"{query}.parquet")
        assert table.models.tolist() == list(range(12))
        assert np.array_equal(table.confidence, factor * (np.arange(12)[:, None] + ROWS))
        assert np.array_equal(table.member[0::2], ~table.member[1::2])
    assert read_table(tmp_path / "performance.parquet", "performance")["value"].tolist() == pytest.approx(
        [0.5 + model / 100 for model in range(12)]
    )
    assert metadata(tmp_path / "clean.parquet", "confidences")["capacity"] == 9


def test_fewer_models_than_a_chunk_holds(tmp_path) -> None:
    chunk(tmp_path / "0-7.parquet", range(8))
    run(tmp_path, 6)
    assert read_confidences(tmp_path / "clean.parquet").models.tolist() == list(range(6))


def test_retried_models_are_told(tmp_path) -> None:
    chunk(tmp_path / "0-3.parquet", range(4), retried=[1])
    chunk(tmp_path / "4-7.parquet", range(4, 8), failed={5: "x"}, retried=[4, 6])
    told = performance(sorted(tmp_path.glob("*-*.parquet")), 8, tmp_path / "performance.parquet", 1)
    assert told[-1] == "trained once more at a lower learning rate: target models 1, 6"  # 4 went with its partner
    assert metadata(tmp_path / "performance.parquet", "performance")["retried"] == [1, 6]


def test_a_failed_model_costs_its_pair(tmp_path) -> None:
    chunk(tmp_path / "0-3.parquet", range(4))
    chunk(tmp_path / "4-7.parquet", range(4, 8), failed={5: "the loss is not finite at step 7"})
    told = run(tmp_path)
    assert told == ["target model 5 failed: the loss is not finite at step 7", "1 of 4 pairs are left out of the audit"]
    assert read_confidences(tmp_path / "clean.parquet").models.tolist() == [0, 1, 2, 3, 6, 7]
    assert set(read_table(tmp_path / "performance.parquet", "performance")["model"]) == {0, 1, 2, 3, 6, 7}
    assert metadata(tmp_path / "clean.parquet", "confidences")["failed"] == {"5": "the loss is not finite at step 7"}
    for queries in (["clean"], []):  # the first fault is that of a query's table, or that of the performance
        with pytest.raises(UserError, match="1 of 4 pairs have a failed target model, and max_failed_pairs allows 0"):
            run(tmp_path, allowed=0, queries=queries)


@pytest.mark.parametrize(("key", "value"), [("data_hash", "e"), ("recipe", {"seed": 2})])
def test_chunks_of_different_origin_are_refused(tmp_path, key: str, value: object) -> None:
    chunk(tmp_path / "0-3.parquet", range(4))
    chunk(tmp_path / "4-7.parquet", range(4, 8), **{key: value})
    for queries in (["clean"], []):
        with pytest.raises(UserError, match=r"4-7\.parquet comes from another"):
            run(tmp_path, queries=queries)


def test_missing_models_are_named(tmp_path) -> None:
    chunk(tmp_path / "0-3.parquet", range(4))
    with pytest.raises(UserError, match="hold no 'clean' answers of target model 4"):
        run(tmp_path)
    assert not (tmp_path / "clean.parquet").exists()
    with pytest.raises(UserError, match="hold no 'third' answers of target model 0"):
        run(tmp_path, 4, queries=["third"])


def test_the_command_line_tells_of_failed_models_once(tmp_path) -> None:
    chunk(tmp_path / "0-7.parquet", range(8), failed={5: "the loss is not finite at step 7"})
    shared = ["--n-models", "8", "--max-failed-pairs", "1"]
    quiet = CliRunner().invoke(
        main,
        ["gather", *shared, "--query", "other", "--output", f"{tmp_path}/other.parquet", f"{tmp_path}/0-7.parquet"],
    )
    told = CliRunner().invoke(
        main, ["performance", *shared, "--output", f"{tmp_path}/performance.parquet", f"{tmp_path}/0-7.parquet"]
    )
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert told.output.splitlines() == [
        "target model 5 failed: the loss is not finite at step 7", "1 of 4 pairs are left out of the audit"
    ]  # fmt: skip
    assert read_confidences(tmp_path / "other.parquet").models.tolist() == [0, 1, 2, 3, 6, 7]
    assert len(read_table(tmp_path / "performance.parquet", "performance")) == 6


def test_the_table_is_plain_for_others(tmp_path) -> None:
    chunk(tmp_path / "0-3.parquet", range(4))
    run(tmp_path, 4)
    frame = pd.read_parquet(tmp_path / "clean.parquet")
    assert list(frame.columns) == ["model", "row", "member", "confidence"]
    assert frame.sort_values(["model", "row"]).index.equals(frame.index)
