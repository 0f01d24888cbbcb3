"""A user's own table: ids that stay one, words for nothing, categories as text, and labels that are none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_tables import OWN, own_table
from real_sources import refused, source

from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.prepare import read
from tailrisk.errors import UserError


def own(folder: Path, frame: pd.DataFrame, **options) -> Dataset:
    """The table as a CSV file, read."""
    frame.to_csv(folder / "own.csv", index=False)
    return read(source(**OWN | {"path": str(folder / "own.csv")} | options))


def test_one_id_with_a_letter_changes_nothing_for_the_others(tmp_path) -> None:
    """15709 and 15709.0 are one patient in every column, not only in one that holds nothing but numbers."""
    frame = own_table()
    numbers = frame["pid"].astype(int).astype(str)
    written = numbers.where(np.arange(200) % 2 == 0, numbers + ".0")
    written[5] = numbers[5] = "A1"
    data = own(tmp_path, frame.assign(pid=written, rid=[f"{row}.0" for row in range(199)] + ["x"]), record="rid")
    assert data.patient.tolist() == numbers.tolist()
    assert data.record.tolist() == [*map(str, range(199)), "x"]


def test_ids_with_leading_zeros_stay_as_they_are(tmp_path) -> None:
    frame = own_table()
    frame["pid"] = frame["pid"].where(frame["pid"] != "0007", "7")  # beside 0008, but not beside 0007
    assert own(tmp_path, frame).patient.tolist() == frame["pid"].tolist()


@pytest.mark.parametrize(
    ("first", "kind", "digits", "right"),
    [
        (2**53 - 100, np.float64, 53, True),
        (2**53, np.float64, 53, False),
        (2**24 - 100, np.float32, 24, True),
        (2**24, np.float32, 24, False),
        (0.5, np.float64, 53, False),
        (2**53, "Float64", 53, False),
    ],
)
def test_ids_that_a_parquet_file_rounds_are_refused(tmp_path, first, kind, digits: int, right: bool) -> None:
    """Of 2**53 and 2**53 + 1, a float64 holds the first alone: two patients would be one."""
    pid = pd.Series(first + np.arange(200) // 2).astype(kind)
    own_table().assign(pid=pid).to_parquet(tmp_path / "own.parquet")
    spec = source(**OWN | {"path": str(tmp_path / "own.parquet")})
    if right:
        assert read(spec).patient.tolist() == [str(first + row // 2) for row in range(200)]
    else:
        refused(
            spec,
            f"column 'pid' stores ids as floating-point numbers with a fraction, or of 2^{digits} and more, which are "
            "not exact (store them as text), in row 1, 2, 3 and 197 more",
        )


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_words_for_nothing_are_missing_numbers_only(tmp_path, name: str) -> None:
    """No insurance and no smoking are values; what is missing is blank, in CSV as in Parquet."""
    words = ["None", "NA", "N/A", "null", None]
    frame = own_table().assign(
        insurance=[words[row % 5] for row in range(200)],
        smoking=["None" if row % 2 else "daily" for row in range(200)],
        outcome=["None" if row % 3 else "severe" for row in range(200)],
    )
    if name == "own.csv":
        frame["lactate"] = frame["lactate"].astype(object)
        frame.loc[[3, 5], "lactate"] = ["NA", "NULL"]
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.loc[[3, 5], "lactate"] = np.nan
        frame.to_parquet(tmp_path / name)
    options = {"path": str(tmp_path / name), "categorical": ["smoking"], "groups": ["insurance"]}
    dataset = read(source(**OWN | options | {"missing": "indicator"}))
    assert dataset.features == ["age", "lactate", "lactate = missing", "smoking = None", "smoking = daily"]
    assert np.flatnonzero(dataset.inputs[:, 2]).tolist() == [3, 5]
    assert dataset.inputs[:, 3].tolist() == [row % 2 for row in range(200)]
    assert dataset.groups["insurance"].value_counts().to_dict() == dict.fromkeys(words[:4], 40)
    assert dataset.groups["insurance"].isna().sum() == 40
    assert dataset.classes == ["None", "severe"]


def test_categories_are_text(tmp_path) -> None:
    """01 is a level as it is written; a number that Parquet stores is a level, however it would be written."""
    unit = [("01", " 02", "10")[row % 3] for row in range(200)]
    dataset = own(tmp_path, own_table().assign(unit=unit))
    assert dataset.features[2:] == ["unit = 01", "unit = 02", "unit = 10"]
    assert dataset.inputs[:, 3].sum() == 67
    own_table().assign(unit=[1.0 + row % 2 for row in range(200)]).to_parquet(tmp_path / "own.parquet")
    assert read(source(**OWN | {"path": str(tmp_path / "own.parquet")})).features[2:] == ["unit = 1.0", "unit = 2.0"]


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (lambda row: f"Doe, Jane {row}", "column 'outcome' has 500 classes in 500 rows: is it the label?"),
        (
            lambda row: f"Doe, Jane {row // 4}",
            "column 'outcome' has 125 classes in 500 rows, most of them of a single patient: is it the label?",
        ),
    ],
)
def test_a_column_of_names_is_not_shown_as_a_label(tmp_path, label, sentence: str) -> None:
    frame = own_table(500).assign(pid=[row // 4 for row in range(500)], outcome=[label(row) for row in range(500)])
    with pytest.raises(UserError) as caught:
        own(tmp_path, frame)
    assert str(caught.value) == f"{tmp_path / 'own.csv'}: {sentence}"
