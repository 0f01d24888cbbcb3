"""Columns of text, as `labels.label_table` gives them, read as ids, numbers and times; what is none is refused."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tailrisk.datasets.labels import refuse


def ids(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Whole numbers as text, missing where blank; "15709.0", as of a table that was saved again, is "15709"."""
    column = table[name]
    whole = column.str.fullmatch(r"\d+(\.0*)?", na=False).astype(bool)
    refuse(path, column.notna() & ~whole, f"column '{name}' is not a whole number")
    return column.str.replace(r"\.0*$", "", regex=True)


def unique_ids(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Ids of which each names one row; UserError where one occurs again."""
    column = ids(path, table, name)
    refuse(path, column.duplicated() & column.notna(), f"column '{name}' holds an id for the second time")
    return column


def numbers(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Numbers as float64, missing where blank."""
    values = pd.to_numeric(table[name], errors="coerce").astype(float)
    refuse(path, values.isna() & table[name].notna(), f"column '{name}' is not a number")
    return values


def times(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Dates and times, missing where blank."""
    values = pd.to_datetime(table[name], format="ISO8601", errors="coerce")
    refuse(
        path, values.isna() & table[name].notna(), f"column '{name}' is not a date and time such as 2150-01-31 08:00:00"
    )
    return values


def within(values: pd.Series, low: float, high: float) -> pd.Series:
    """Values from `low` to `high`; others, which no patient can have, become missing."""
    return values.where(values.between(low, high))


def by_value(column: pd.Series, change: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """`change` of a column that holds few different texts in many rows."""
    codes, texts = pd.factorize(column, use_na_sentinel=False)
    return change(pd.Series(texts, dtype=column.dtype)).iloc[codes].set_axis(column.index)
