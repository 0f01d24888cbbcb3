"""From columns of a table to one float32 matrix: standardised numbers and indicators of levels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def standardised(values: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Columns of `values` [N, F] at mean 0 and standard deviation 1, and which columns are constant (set to 0)."""
    values = np.asarray(values, dtype=np.float64)
    spread = values.std(axis=0)
    constant = spread == 0
    return ((values - values.mean(axis=0)) / np.where(constant, 1.0, spread)).astype(np.float32), constant


def indicators(column: pd.Series) -> tuple[NDArray[np.float32], list[str]]:
    """One 0/1 column [N, levels] per level of a categorical column without missing values, and the levels sorted."""
    levels, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
    matrix = np.zeros((len(column), len(levels)), dtype=np.float32)
    matrix[np.arange(len(column)), codes] = 1.0
    return matrix, levels.tolist()


def encode(
    table: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str], level_of_missing: str | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    """Features [N, F] and their names.

    With `level_of_missing`, a missing number becomes the column's median beside an indicator, and a missing category
    a level of that name; without it the columns must be complete.
    """
    blocks: list[NDArray[np.float32]] = []
    names: list[str] = []
    for name in numeric:
        column = table[name].astype(float)
        missing = column.isna()
        block, _ = standardised(column.fillna(column.median()).to_numpy()[:, None])
        blocks.append(block)
        names.append(name)
        if level_of_missing is not None and missing.any():
            blocks.append(missing.to_numpy(np.float32)[:, None])
            names.append(f"{name} = {level_of_missing}")
    for name in categorical:
        column = table[name].astype(object)
        matrix, levels = indicators(column if level_of_missing is None else column.fillna(level_of_missing))
        blocks.append(matrix)
        names.extend(f"{name} = {level}" for level in levels)
    return np.hstack(blocks), names
