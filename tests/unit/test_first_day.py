"""Measurements of the first day: streams of large tables, and what becomes of them."""

import gzip

import numpy as np
import pyarrow as pa
import pytest

from tailrisk.datasets.first_day import Deferred, Measure, Summary, lookup, measurements
from tailrisk.errors import UserError

COLUMNS = {"who": pa.int64(), "what": pa.string(), "much": pa.float64()}


def test_measurements_are_streamed_in_blocks(tmp_path, monkeypatch) -> None:
    """The codes wanted, in any number of blocks; a quoted text may hold commas and ends of lines."""
    monkeypatch.setattr("tailrisk.datasets.first_day.BLOCK", 1000)
    path = tmp_path / "events.csv.gz"
    lines = [f'{number},{"abc"[number % 3]},{number / 2},"so, or\nso"' for number in range(2000)]
    path.write_bytes(gzip.compress("\n".join(["who,what,much,note", *lines, ',b,,""']).encode()))
    parts = list(measurements(path, COLUMNS, "what", pa.array(["c", "b"])))
    assert len(parts) > 20
    who, what, much = (np.concatenate([part[name] for part in parts]) for name in COLUMNS)
    assert who.tolist() == [number for number in range(2000) if number % 3 > 0] + [-1]
    assert what.tolist() == [1 if number % 3 == 1 else 0 for number in range(2000) if number % 3 > 0] + [1]
    np.testing.assert_array_equal(much[:-1], who[:-1] / 2)
    assert np.isnan(much[-1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("who,what,much\n1,a,secret\n", "is not a readable table (In CSV column #2)"),
        ("who,what,much\n1,a,2,secret\n", "is not a readable table (rows hold more or fewer values than the header)"),
        ("who,what\n1,a\n", "has no column 'much'; known: what, who"),
        ("", "is not a readable table (rows hold more or fewer values than the header)"),
    ],
)
def test_unfit_tables_of_measurements_are_refused(tmp_path, text, sentence) -> None:
    path = tmp_path / "events.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        list(measurements(path, COLUMNS, "what", pa.array(["a"])))
    assert f"{path} {sentence}" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_summaries() -> None:
    measures = [
        Measure("pulse", 10, 300, (1, 2)),
        Measure("warmth", 25, 45, (3,), fahrenheit=(4,)),
        Measure("x", 0, 1, (5,)),
    ]
    summary = Summary(3, measures)
    assert summary.codes.to_pylist() == [1, 2, 3, 4, 5]
    summary.add(np.array([0, 0, 1, -1, 1]), np.array([0, 1, 0, 0, 2]), np.array([60.0, 80, 90, 100, np.nan]))
    summary.add(np.array([0, 1, 1]), np.array([0, 3, 0]), np.array([400.0, 98.6, 5]))
    found = summary.features().reshape(3, 3, 4)
    # Pulse: 60 to 80 with mean 70; 90; and the median of both, 75 to 85 with mean 80.
    np.testing.assert_allclose(found[:, 0, 0], np.array([-15, 15, 0]) / np.sqrt(150), atol=1e-6)
    np.testing.assert_allclose(found[:, 0, 1], np.array([-10, 10, 0]) / np.sqrt(200 / 3), atol=1e-6)
    np.testing.assert_allclose(found[:, 0, 2], np.array([-5, 5, 0]) / np.sqrt(50 / 3), atol=1e-6)
    assert found[:, :, 3].tolist() == [[0, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert not found[:, 2, :3].any()


def test_lookup() -> None:
    assert lookup(np.array([30, 10, 20]), np.array([10, 30, 40, 5, 20, -1])).tolist() == [1, 0, -1, -1, 2, -1]


def test_deferred_inputs_are_made_when_asked_for() -> None:
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.ones((2, 3), dtype=np.float32)

    inputs = Deferred((2, 3), make)
    assert (inputs.shape, inputs.dtype, made) == ((2, 3), np.float32, [])
    assert np.asarray(inputs).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert np.asarray(inputs, dtype=np.float64).dtype == np.float64
    assert len(made) == 2
