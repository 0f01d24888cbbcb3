"""Harvard FairVision: fundus images of 30,000 patients, 10,000 for each of three eye diseases (Luo et al., ECCV 2024).

Below AMD, DR and Glaucoma lie ReadMe/data_summary_<disease>.csv and Training, Validation and Test with, for each
patient, slo_fundus_<number>.jpg (512 × 664 pixels) and data_<number>.npz (the same at 200 × 200 pixels, stretched to
its own range, beside the OCT volume). The tables, their values and the names of the JPEG files are those that the
authors of the paper read; the documentation also knows slo_<number>.jpg, the tables beside the folders, folders called
train, val and test, and an archive that unpacks into Dataset/, all of which are found as well.

Not confirmed: whether some patients are in two of the three parts, as numbers start anew in each; here they are
different patients. That of DR has no healthy class: its milder one includes eyes without retinopathy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tailrisk.config.sources import Fairvision
from tailrisk.datasets.contract import Dataset, Files, first
from tailrisk.datasets.decode import BlankError
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

COMPLETE = ("filename", "use")
OPTIONAL = ("age", "gender", "race", "ethnicity")
CLASSES = {
    "AMD": {
        "normal": "healthy",
        "early amd": "early AMD",
        "intermediate amd": "intermediate AMD",
        "late amd": "late AMD",
    },
    "DR": {"non-vision threatening dr": "non-vision-threatening DR", "vision threatening dr": "vision-threatening DR"},
    "Glaucoma": {"no": "healthy", "yes": "glaucoma"},
}
"""What the tables say, and the paper's classes."""
ORDER = ["healthy", *CLASSES["DR"].values(), "glaucoma", *list(CLASSES["AMD"].values())[1:]]
DISEASES = {"AMD": "age-related macular degeneration", "DR": "diabetic retinopathy", "Glaucoma": "glaucoma"}
FOLDERS = {"training": ("Training", "train"), "validation": ("Validation", "val"), "test": ("Test", "test")}
SPLITS = {"training": "audit", "validation": "validation", "test": "test"}
RACES = {"asian": "Asian", "black": "Black", "white": "White"}
ETHNICITIES = {"hispanic": "Hispanic", "non-hispanic": "not Hispanic"}
SEXES = {"female": "female", "male": "male"}
EACH = 10_000
"""Patients of each disease."""
NAMES = ("slo_fundus_{}.jpg", "slo_{}.jpg", "data_{}.npz")
"""Files of an image, those that are preferred first."""
FLAT, DARK = 3, 1
"""Images whose standard deviation or mean (of 255) is no more than this show nothing: 1,458 of all, as in the paper."""


@dataclass(frozen=True)
class Part:
    """One disease: folder, name in the tables, and the folders in which the images of each `use` may lie."""

    folder: Path
    disease: str

    @property
    def column(self) -> str:
        """Column of the class."""
        return self.disease.lower()

    @property
    def table(self) -> Path:
        """The table, in ReadMe as downloaded, or beside the folders of the images, or beside those of the diseases."""
        name = f"data_summary_{self.column}.csv"
        return either(self.folder.parent, f"{self.disease}/ReadMe/{name}", f"{self.disease}/{name}", name)

    def images(self, use: str) -> Path:
        """Folder with the images of a `use`."""
        names = [f"{parent}{name}" for parent in ("", "Dataset/") for name in FOLDERS[use]]
        return either(self.folder, *names)


def needs(spec: Fairvision) -> list[Need]:
    """The table of each disease, and its folders of images."""
    found = []
    for part in _parts(spec):
        found.append(Need(part.table, (*COMPLETE, *OPTIONAL, part.column)))
        found += [Need(part.images(use)) for use in FOLDERS]
    return found


def read(spec: Fairvision) -> Dataset:
    """One record a patient, called by disease and number, such as amd-00001.

    Blank images are found when they are decoded, and quarantined: the paper is left with 28,542 images, 19,982 of
    training and validation and 8,560 of the test split.
    """
    parts = _parts(spec)
    read = [_part(part) for part in parts]
    table = pd.concat([rows for rows, _ in read], ignore_index=True)
    classes = [name for name in ORDER if any(name in CLASSES[part.disease].values() for part in parts)]
    ids = table["id"].to_numpy(object)
    return Dataset(
        title="Harvard FairVision",
        task="multiclass" if len(classes) > 2 else "binary",
        classes=classes,
        record=ids,
        patient=ids,
        inputs=_inputs(spec, parts, table),
        labels=table["class"].map({name: number for number, name in enumerate(classes)}).to_numpy(np.int64),
        groups=table[["race", "sex", "ethnicity", "age", "disease"]],
        features=[],
        licence=spec.terms,
        preprocessing=f"Gray of 8 bits, resized to {' × '.join(map(str, spec.shape))} pixels (bilinear, antialiased).",
        where=spec.path,
        split=table["use"].map(SPLITS).to_numpy(object) if spec.splits == "official" else None,
        checksums={part.table.name: checksum for part, (_, checksum) in zip(parts, read, strict=True)},
        expected=dict.fromkeys(("rows", "records", "patients"), EACH * len(parts)),
    )


def _parts(spec: Fairvision) -> list[Part]:
    return [Part(Path(spec.path) / disease, disease) for disease in CLASSES if disease in spec.diseases]


def _part(part: Part) -> tuple[pd.DataFrame, str]:
    """The patients of one disease in plain words, missing where unknown; and the checksum of its table."""
    path, known = part.table, CLASSES[part.disease]
    table, checksum = label_table(path, complete=[*COMPLETE, part.column], optional=OPTIONAL)
    number = table["filename"].str.extract(r"^data_(\d+)\.npz$", expand=False)
    refuse(path, number.isna(), "column 'filename' is not of the form data_<number>.npz")
    refuse(path, number.duplicated(), "column 'filename' names a file for the second time")
    words = {name: table[name].str.lower() for name in ("use", "gender", "race", "ethnicity", part.column)}
    unknown = sorted(set(words[part.column]) - set(known))
    if unknown:
        raise UserError(f"{path}: column '{part.column}' has values that the source does not know: {first(unknown)}")
    refuse(path, ~words["use"].isin(SPLITS), f"column 'use' is none of {', '.join(SPLITS)}")
    return pd.DataFrame(
        {
            "id": part.column + "-" + number,
            "number": number,
            "part": part.disease,
            "use": words["use"],
            "class": words[part.column].map(known),
            "race": words["race"].map(RACES),
            "sex": words["gender"].map(SEXES),
            "ethnicity": words["ethnicity"].map(ETHNICITIES),
            "age": age_bands(path, table, "age"),
            "disease": DISEASES[part.disease],
        }
    ), checksum


def _inputs(spec: Fairvision, parts: Sequence[Part], table: pd.DataFrame) -> Files:
    """JPEG files wherever there are some, else the copies in NPZ files: never both, as their brightness differs."""
    folders = {(part.disease, use): part.images(use) for part in parts for use in FOLDERS}
    there = {
        key: {file.name for file in folder.iterdir()} if folder.is_dir() else set() for key, folder in folders.items()
    }
    places = list(zip(table["part"], table["use"], table["number"], strict=True))
    for name in NAMES:
        if any(name.format(number) in there[part, use] for part, use, number in places):
            paths = [folders[part, use] / name.format(number) for part, use, number in places]
            return Files(paths, partial(fundus, shape=spec.shape), (1, *spec.shape), np.uint8, "images")
    raise UserError(
        f"none of the {len(table):,} images is below {spec.path}, such as "
        f"{folders[places[0][:2]] / NAMES[0].format(places[0][2])}: unpack them there, or correct the dataset's options"
    )


def fundus(file: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """One image [1, height, width], the first channel of a JPEG file or of the array `slo_fundus` in an NPZ file.

    BlankError where the image, at its own size, is as good as black or of one shade.
    """
    pixels = _array(file) if file.suffix == ".npz" else _photograph(file)
    mean, spread = float(pixels.mean()), float(pixels.std())
    if spread <= FLAT or mean <= DARK:
        raise BlankError(f"mean {mean:.1f}, standard deviation {spread:.1f}")
    first_channel = pixels[..., 0] if pixels.ndim == 3 else pixels
    image = Image.fromarray(np.ascontiguousarray(first_channel))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))[None]


def _photograph(file: Path) -> NDArray[np.uint8]:
    """Pixels [height, width] or [height, width, channels] of a picture."""
    try:
        with Image.open(file) as image:
            return np.asarray(image if image.mode in {"L", "RGB"} else image.convert("RGB"))
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(str(error)) from None


def _array(file: Path) -> NDArray[np.uint8]:
    """Pixels [height, width] or [height, width, channels], 0 to 255, of the image that lies beside the OCT volume."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            pixels = np.asarray(arrays["slo_fundus"])
    except FileNotFoundError:
        raise
    except KeyError:
        raise UserError("it holds no array slo_fundus") from None
    except Exception as error:  # what a damaged archive, its compression or the header in it make of each other
        raise UserError(f"not a readable NPZ file ({' '.join(str(error).split())})") from None
    if pixels.ndim not in (2, 3) or not pixels.size or not np.issubdtype(pixels.dtype, np.number):
        raise UserError("its array slo_fundus is no image")
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
