"""Tables of labels that lie beside images or signals: reading them as text, and ages in bands."""

import hashlib
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.base import suggestion
from tailrisk.datasets.contract import first
from tailrisk.errors import UserError


def label_table(path: Path, complete: Sequence[str], optional: Sequence[str] = ()) -> tuple[pd.DataFrame, str]:
    """The named columns of a CSV file (also compressed) as stripped text, and the file's SHA-256.

    Blanks are missing values; UserError where a column is absent, or one of `complete` is blank in a row.
    """
    try:
        with warnings.catch_warnings():
            # With index_col=False empty ends of rows are fine; values beyond the header would be dropped.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except FileNotFoundError:
        raise UserError(f"the table {path} does not exist: put it there, or correct the dataset's options") from None
    except pd.errors.ParserWarning:
        raise UserError(f"{path}: rows hold more values than the header has columns: fetch the file again") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from None
    for name in (*complete, *optional):
        if name not in table:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, map(str, table.columns))}")
    if table.empty:
        raise UserError(f"{path} has no rows")
    table = table[[*complete, *optional]].apply(lambda column: column.str.strip())
    table = table.where(table != "")
    for name in complete:
        refuse(path, table[name].isna(), f"column '{name}' is blank")
    with path.open("rb") as file:
        return table, hashlib.file_digest(file, "sha256").hexdigest()


def refuse(path: Path, wrong: pd.Series, fault: str) -> None:
    """UserError with the first offending rows, counted from 1 without the header, where any row is `wrong`."""
    if wrong.any():
        raise UserError(f"{path}: {fault} in row {first([int(row) + 1 for row in np.flatnonzero(wrong)])}")


def age_bands(path: Path, table: pd.DataFrame, name: str) -> pd.Series:
    """Bands of 20 years from the column `name` of ages in years; missing where the age is.

    UserError where an age is not a number; negative ones are missing.
    """
    age = pd.to_numeric(table[name], errors="coerce").astype(float)
    refuse(path, age.isna() & table[name].notna(), f"column '{name}' is not an age in years")
    bands = ["0 to under 20", "20 to under 40", "40 to under 60", "60 to under 80", "80 and over"]
    return pd.cut(age, [0, 20, 40, 60, 80, np.inf], right=False, labels=bands).astype(object)
