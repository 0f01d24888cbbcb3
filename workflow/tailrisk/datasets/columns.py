"""Columns of text, as `labels.label_table` gives them, read as ids, numbers and times; what is none is refused."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tailrisk.datasets.labels import refuse

WHOLE, FRACTION, ROUNDED = r"-?\d+(?:\.0*)?", r"-?\d+\.\d*[1-9]\d*", r"-?\d(?:\.\d+)?[eE]\+\d+"
"""How numbers are written: whole ones, those that are not, and those that a spreadsheet has rounded."""


def ids(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Whole numbers as text, missing where blank; "15709.0", as of a table that was saved again, is "15709"."""
    column = table[name]
    whole = column.str.fullmatch(r"\d+(\.0*)?", na=False).astype(bool)
    refuse(path, column.notna() & ~whole, f"column '{name}' is not a whole number")
    return column.str.replace(r"\.0*$", "", regex=True)


def text_ids(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Ids of any kind as text, missing where blank; "15709.0" is "15709", as in `ids`.

    UserError where one number is written in several ways (7 and 007), which may be one patient or two, and where a
    number is rounded (1.23457E+15), which may be many.
    """
    rounded = table[name].str.fullmatch(ROUNDED, na=False).astype(bool)
    refuse(path, rounded, f"column '{name}' has lost digits of ids (store them as text), such as 1.2E+15,")
    column = without_empty_fractions(table[name])
    fault = f"column '{name}' writes a number in several ways, such as 7 and 007 (make them one, or add a letter),"
    refuse(path, in_several_ways(column), fault)
    return column


def without_empty_fractions(column: pd.Series) -> pd.Series:
    """Texts, in which "2.0" is "2"; as they are where the column has other fractions, whose 2.0 may be no number."""
    texts = pd.Series(column.dropna().unique(), dtype=object)
    if texts.empty or texts.str.fullmatch(FRACTION).any():
        return column
    whole = texts.where(~texts.str.fullmatch(WHOLE), texts.str.partition(".")[0])
    return column.map(dict(zip(texts, whole, strict=True)))


def in_several_ways(column: pd.Series) -> pd.Series:
    """Where a text is a whole number that the column writes in another way too, such as 7, 007 and 7.0."""
    texts = pd.Series(column.dropna().unique(), dtype=object)
    whole = texts[texts.str.fullmatch(WHOLE).astype(bool)]
    number = whole.str.replace(r"\.0*$", "", regex=True).str.replace(r"^(-?)0+", r"\1", regex=True)
    return column.isin(whole[number.duplicated(keep=False)])


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
