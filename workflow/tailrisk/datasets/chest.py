"""The 14 observations that CheXpert's and NegBio's labelers find in reports on chest radiographs."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.datasets.contract import Task
from tailrisk.datasets.labels import refuse

NONE = "No Finding"
OBSERVATIONS = [
    NONE,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
"""In the order of CheXpert's tables; those of MIMIC-CXR are alphabetical."""
COMPETITION = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
STATED = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
"""How a positive, negative and uncertain observation are written; one that a report does not mention is blank."""
Target = Literal["findings", "competition", "no-finding"]
Uncertain = Literal["positive", "negative", "unobserved"]
COUNTED = {"positive": 1.0, "negative": 0.0, "unobserved": np.nan}


def stated(path: Path, table: pd.DataFrame, target: Target) -> NDArray[np.float32]:
    """Observations [N, 14] of a table of text: 1, 0, -1 where uncertain, NaN where blank.

    UserError where a cell holds anything else, or no finding, which has no degrees, is a target and uncertain.
    """
    columns = []
    for name in OBSERVATIONS:
        values = table[name].map(STATED)
        refuse(path, values.isna() & table[name].notna(), f"column '{name}' is neither 1, 0, -1 nor blank")
        if name == NONE and target == "no-finding":
            refuse(path, values == -1, f"column '{NONE}', which is the target, is uncertain (-1)")
        columns.append(values.to_numpy(np.float32, na_value=np.nan))
    return np.stack(columns, axis=1)


def decided(observations: NDArray[np.float32], uncertain: Uncertain) -> NDArray[np.float32]:
    """Observations [N, 14] as 1, 0 and, where `uncertain` says so, NaN: blank is 0, as in the paper."""
    return np.where(observations == -1, np.float32(COUNTED[uncertain]), np.nan_to_num(observations, nan=0.0))


def learned(values: NDArray[np.float32], target: Target) -> tuple[Task, list[str], NDArray[Any]]:
    """Task, classes and labels of a target from what `decided` gives.

    Nothing is made up: of the 14, an image may bear none, not even no finding.
    """
    match target:
        case "findings":
            return "multilabel", OBSERVATIONS, values
        case "competition":
            return "multilabel", COMPETITION, values[:, [OBSERVATIONS.index(name) for name in COMPETITION]]
        case "no-finding":
            return "binary", ["any finding", "no finding"], values[:, OBSERVATIONS.index(NONE)].astype(np.int64)


def borne(values: NDArray[np.float32]) -> pd.Series:
    """Names of the observations that are 1, as a list for every row of `values` [N, 14]."""
    names = np.array(OBSERVATIONS, dtype=object)
    return pd.Series([names[row == 1].tolist() for row in values], dtype=object)


def known(groups: pd.DataFrame) -> pd.DataFrame:
    """Group variables without those that are missing in every row, with a new index."""
    return groups.dropna(axis=1, how="all").reset_index(drop=True)


def gray(shape: tuple[int, int]) -> str:
    """What is done to the pixels of 8-bit images."""
    return f"8-bit gray, resized to {shape[0]} × {shape[1]} pixels (bilinear, antialiased; the aspect is not kept)."
