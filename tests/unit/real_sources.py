"""Short ways to name the real sources, to damage their tables, and to see them refused."""

from pathlib import Path

import pandas as pd
import pytest

from tailrisk.config.load import parse
from tailrisk.config.sources import AnySource
from tailrisk.datasets.prepare import read
from tailrisk.errors import UserError

NIH_TABLE = "Data_Entry_2017_v2020_subset.csv"


def source(**options):
    return parse(AnySource, options, "datasets.x")


def nih(folder: Path, **options):
    return source(source="nih_chestxray14", path=str(folder), table=NIH_TABLE, **options)


def edit(table: Path, row: int, column: str, value: str) -> None:
    """Set one cell; rows are counted from 1 without the header."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    frame.loc[row - 1, column] = value
    frame.to_csv(table, index=False)


def refused(spec, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read(spec)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
