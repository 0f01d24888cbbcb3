"""Fitzpatrick 17k: 16,577 photographs of 114 skin conditions from two atlases (Groh et al., CVPR Workshops 2021).

The source names no patients. Each image counts as one, as in the paper, although the atlases show some patients, and
some images, several times (Abhishek et al., Scientific Data 2025, find thousands of near copies); the stage that looks
for duplicates lists those that prepared images give away.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import Fitzpatrick17k
from tailrisk.datasets.contract import Dataset, excluded, first
from tailrisk.datasets.images import find_images, pictures
from tailrisk.datasets.labels import label_table, refuse
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

TABLE = "fitzpatrick17k.csv"
COMPLETE = ("md5hash", "fitzpatrick_scale", "label", "nine_partition_label", "three_partition_label")
OPTIONAL = ("qc", "url")
COLUMNS = {"three": "three_partition_label", "nine": "nine_partition_label", "condition": "label"}
CLASSES = {
    "three": ["non-neoplastic", "benign", "malignant"],
    "nine": [
        "inflammatory",
        "genodermatoses",
        "benign dermal",
        "benign epidermal",
        "benign melanocyte",
        "malignant dermal",
        "malignant epidermal",
        "malignant melanoma",
        "malignant cutaneous lymphoma",
    ],
}
"""The partitions of the conditions; those of `condition` are the table's own."""
ROWS = 16_577
IN_TABLE = {
    "three": [12_080, 2_234, 2_263],
    "nine": [10_886, 1_194, 1_067, 931, 236, 156, 1_352, 573, 182],
}
"""Rows of the classes in the released table, whatever images there are."""
TESTED = "1 Diagnostic"
"""Of the qualities that two dermatologists gave to 504 images, that of the test split."""
NO_PHOTOGRAPHS = {
    "2ea034fc482e9bd21a5dfa2506cc5d6b",
    "bccab73c32aba48c90602de9bb458272",
    "e69165b3455bb3a5a8b33a0f6fd8a1d3",
}
"""Images that the authors of the paper left out, radiological ones."""
UNKNOWN = "-1"
TYPES = {str(number): name for number, name in enumerate(["I", "II", "III", "IV", "V", "VI"], start=1)}
PAIRS = {"I": "I-II", "II": "I-II", "III": "III-IV", "IV": "III-IV", "V": "V-VI", "VI": "V-VI"}


def table_of(spec: Fitzpatrick17k) -> Path:
    """The table, also where its folder is named or it is compressed."""
    path = Path(spec.path)
    return either(path, TABLE, f"{TABLE}.gz") if path.is_dir() else path


def needs(spec: Fitzpatrick17k) -> list[Need]:
    """The table and the folder of the images."""
    return [Need(table_of(spec), (*COMPLETE, *OPTIONAL)), Need(Path(spec.images))]


def read(spec: Fitzpatrick17k) -> Dataset:
    """One record an image, which is its own patient. Rows that dermatologists called wrongly labelled stay, as in the
    paper.

    Left out are rows without an image (no url, unless a file is there all the same), three that show no skin, and
    images of classes with fewer than `least` of them. Links die: the authors of the paper could fetch 16,523 images.
    """
    path = table_of(spec)
    table, checksum = label_table(path, complete=COMPLETE, optional=OPTIONAL)
    refuse(path, table["md5hash"].duplicated(), "column 'md5hash' names an image for the second time")
    table["skin"], kind = _skin(table, path), _kinds(spec, table, path)
    files = find_images(Path(spec.images), (table["md5hash"] + ".jpg").tolist(), str(path))
    reason = _reasons(spec, table, kind, files)
    left_out = excluded(table.loc[reason != "", "md5hash"], reason[reason != ""].tolist())
    keep = np.flatnonzero(reason == "")
    table, kind = table.iloc[keep].reset_index(drop=True), kind.iloc[keep]
    classes = CLASSES.get(spec.target) or sorted(set(kind))
    if spec.least > 1:
        classes = [name for name in classes if (kind == name).any()]
    if len(classes) < 2:
        raise UserError(f"{path}: no two classes have {spec.least:,} images: lower `least`")
    ids = table["md5hash"].to_numpy(object)
    height, width = spec.shape
    return Dataset(
        title="Fitzpatrick 17k",
        task="multiclass" if len(classes) > 2 else "binary",
        classes=classes,
        record=ids,
        patient=ids,
        inputs=pictures([files[row] for row in keep], spec.shape, spec.colour),
        labels=kind.map({name: number for number, name in enumerate(classes)}).to_numpy(np.int64),
        groups=_groups(spec, table),
        features=[],
        licence=spec.terms,
        preprocessing=f"8-bit {'colour' if spec.colour else 'gray'}, resized to {height} × {width} pixels (bilinear, "
        "antialiased).",
        where=str(path),
        split=_split(table) if spec.splits == "official" else None,
        checksums={path.name: checksum},
        excluded=left_out,
        expected={"rows": ROWS} | _expected(spec, classes),
    )


def _skin(table: pd.DataFrame, path: Path) -> pd.Series:
    """Fitzpatrick's skin type as a Roman number, missing where nobody could tell it."""
    numbers = table["fitzpatrick_scale"].str.replace(r"\.0*$", "", regex=True)
    refuse(path, ~numbers.isin([*TYPES, UNKNOWN]), f"column 'fitzpatrick_scale' is neither 1 to 6 nor {UNKNOWN}")
    return numbers.map(TYPES)


def _kinds(spec: Fitzpatrick17k, table: pd.DataFrame, path: Path) -> pd.Series:
    """The class of every row."""
    kind = table[COLUMNS[spec.target]]
    if spec.target in CLASSES:
        unknown = sorted(set(kind) - set(CLASSES[spec.target]))
        if unknown:
            raise UserError(f"{path}: column '{kind.name}' has values that the source does not know: {first(unknown)}")
    return kind


def _reasons(spec: Fitzpatrick17k, table: pd.DataFrame, kind: pd.Series, files: list[Path]) -> pd.Series:
    """Why a row is no record, "" where it is one."""
    unlinked = table["url"].isna()
    absent = [gone and not file.exists() for gone, file in zip(unlinked, files, strict=True)]
    reason = pd.Series(np.where(absent, "no image in the source", ""), dtype=object)
    reason[table["md5hash"].isin(NO_PHOTOGRAPHS)] = "no photograph of skin"
    rare = kind.map(kind[reason == ""].value_counts()).fillna(0) < spec.least
    return reason.mask(rare & (reason == ""), f"class with fewer than {spec.least:,} images")


def _groups(spec: Fitzpatrick17k, table: pd.DataFrame) -> pd.DataFrame:
    """Skin type in pairs, as in the paper, and by itself; and the partitions that are not the label."""
    partitions = {name: table[COLUMNS[name]] for name in ("three", "nine") if name != spec.target}
    return pd.DataFrame(
        {"skin_type": table["skin"].map(PAIRS), "single_skin_type": table["skin"]}
        | {f"{name}_partition": partition for name, partition in partitions.items()}
    )


def _split(table: pd.DataFrame) -> NDArray[np.object_]:
    return np.array(["test" if quality == TESTED else None for quality in table["qc"]], dtype=object)


def _expected(spec: Fitzpatrick17k, classes: list[str]) -> dict[str, int]:
    known = dict(zip(CLASSES.get(spec.target, []), IN_TABLE.get(spec.target, []), strict=True))
    return {f"class {name}": known[name] for name in classes if name in known}
