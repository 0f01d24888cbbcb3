"""Race and ethnicity of CheXpert's patients, from the table of demographics that is offered beside the images."""

import hashlib
from pathlib import Path

import pandas as pd

from tailrisk.config.base import suggestion
from tailrisk.datasets.labels import label_table, refuse, workbook
from tailrisk.errors import UserError

PATIENT, RACE, ETHNICITY = "PATIENT", "PRIMARY_RACE", "ETHNICITY"
COLUMNS = (PATIENT, RACE, ETHNICITY)
RACES = {"white": "White", "black": "Black", "asian": "Asian"}
"""First words of the races that are told apart; all others that are stated are together "other"."""
UNSTATED = r"unknown|refused|declined|declines|not stated"


def people(path: Path) -> tuple[pd.DataFrame, str]:
    """Race and ethnicity by patient ("patient00001"), and the file's SHA-256; missing where they are not stated.

    A patient may have several rows; where these contradict each other, nothing is known.
    """
    table, checksum = _excel(path) if path.suffix == ".xlsx" else label_table(path, [PATIENT], [RACE, ETHNICITY])
    refuse(path, table[PATIENT].isna(), f"column '{PATIENT}' is blank")
    words = table.apply(_plain)
    rows = pd.DataFrame(
        {"race": race(words[RACE]), "ethnicity": ethnicity(words[ETHNICITY]).fillna(ethnicity(words[RACE]))}
    )
    by_patient = rows.groupby(words[PATIENT])
    return by_patient.first().where(by_patient.nunique() == 1), checksum  # both pass missing values over


def race(plain: pd.Series) -> pd.Series:
    """The vocabulary of PRIMARY_RACE ("asian - historical conv", "black, non-hispanic") by its first word."""
    stated = plain.notna() & ~plain.str.contains(UNSTATED, na=False)
    return plain.str.extract(r"^([a-z]+)", expand=False).map(RACES).fillna("other").where(stated)


def ethnicity(plain: pd.Series) -> pd.Series:
    """Hispanic or not, where a text says either."""
    no = plain.str.contains(r"\b(?:non|not)[ -]+(?:hispanic|latino)", na=False)
    yes = plain.str.contains("hispanic|latino", na=False) & ~no
    return pd.Series("Hispanic", index=plain.index).where(yes).fillna(no.map({True: "not Hispanic"}))


def _plain(column: pd.Series) -> pd.Series:
    """Text in lower case with single spaces; tabs, line breaks and hard spaces count as spaces."""
    text = column.str.lower().str.replace(r"\s+", " ", regex=True).str.strip()
    return text.where(text != "")


def _excel(path: Path) -> tuple[pd.DataFrame, str]:
    """The first sheet's columns as text. UserError where the file is no workbook or lacks a column."""
    try:
        table = workbook(path)
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"the table {path} does not exist: put it there, or correct `demographics`") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a readable workbook ({reason}): fetch the file again") from None
    table.columns = [str(name).strip() for name in table.columns]
    for name in COLUMNS:
        if name not in table:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, table.columns)}")
    return table[list(COLUMNS)], checksum
