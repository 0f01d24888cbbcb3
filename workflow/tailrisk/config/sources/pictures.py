"""Photographs of skin, fundus images and mammograms."""

from typing import ClassVar, Literal

from pydantic import Field

from tailrisk.config.sources.base import SPLITS_HELP, ImageSource, Pixels, Splits


class Fitzpatrick17k(ImageSource):
    """Fitzpatrick 17k: 16,577 clinical photographs of 114 skin conditions (Groh et al., CVPR Workshops 2021)."""

    terms: ClassVar[str] = "Annotations CC BY-NC-SA 3.0; the images belong to DermaAmin and Atlas Dermatologico"
    access: ClassVar[str] = (
        "The table is at https://github.com/mattgroh/fitzpatrick17k; its column url says where each image lies (a "
        "request form there leads to all of them); save each as <md5hash>.jpg in one folder."
    )
    source: Literal["fitzpatrick17k"]
    path: str = Field(description="fitzpatrick17k.csv (or .csv.gz), or the folder that holds it.")
    images: str = Field(description="Folder with, in it or anywhere below it, the images <md5hash>.jpg.")
    target: Literal["three", "nine", "condition"] = Field(
        "three",
        description="Classes: non-neoplastic, benign and malignant (three), nine kinds of disease, or 114 conditions.",
    )
    least: int = Field(
        1,
        ge=1,
        description="Images that a class needs; those of rarer ones are left out, such as of conditions too rare for "
        "each split to have some.",
    )
    colour: bool = Field(True, description="Three channels of colour, as in the paper, or one of gray.")
    splits: Splits = Field(
        "drawn",
        description="Which images are audited: a draw by `test` and `validation`, or all but a drawn validation part, "
        "with the 348 images that dermatologists rated as diagnostic (qc) as the test split (official), as in the "
        "paper.",
    )


class Fairvision(ImageSource):
    """Harvard FairVision: SLO fundus images of 30,000 patients with three eye diseases (Luo et al., ECCV 2024)."""

    terms: ClassVar[str] = "CC BY-NC-ND 4.0, for research only; see the agreement of the source"
    access: ClassVar[str] = (
        "Ask at https://ophai.hms.harvard.edu/datasets/harvard-fairvision30k or take it from "
        "https://huggingface.co/datasets/harvardairobotics/FairVision, accept the terms, and unpack AMD, DR and "
        "Glaucoma below one folder."
    )
    source: Literal["fairvision"]
    path: str = Field(description="Folder with AMD, DR and Glaucoma, as unpacked.")
    diseases: list[Literal["AMD", "DR", "Glaucoma"]] = Field(
        ["AMD", "DR", "Glaucoma"],
        min_length=1,
        description="Which of the three parts of the release; the classes are those of the chosen ones.",
    )
    splits: Splits = Field("drawn", description=SPLITS_HELP)
    max_quarantined: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the images that may be missing, unreadable or blank; 5 % of the release are blank.",
    )


class Embed(ImageSource):
    """EMBED: 480,323 mammograms of 23,253 patients (Jeong et al., Radiology: Artificial Intelligence 2023)."""

    terms: ClassVar[str] = "EMBED research use agreement (Emory); no redistribution, no release of trained models"
    access: ClassVar[str] = (
        "Ask at https://github.com/Emory-HITI/EMBED_Open_Data, accept the agreement, and copy tables/ and the images "
        "from the AWS bucket."
    )
    source: Literal["embed"]
    path: str = Field(description="Folder with tables/ as downloaded.")
    images: str | None = Field(
        None,
        description="Folder with the images; null for images/ in `path`, or `path` itself. The paths in the table lead "
        "with folders of another machine (/mnt/...): as many are dropped as it takes to find the files below it.",
    )
    format: Literal["dicom", "png"] = Field(
        "dicom",
        description="The release's DICOM files, or PNG files made of them: where png_path says, or anywhere below "
        "`images` under the names of the DICOM files.",
    )
    mirror: bool = Field(
        True,
        description="Mirror the DICOM files in which the breast points to the left, so that all point the same way, as "
        "in the paper. PNG files are taken as they are.",
    )
    kinds: list[Literal["2D", "cview"]] = Field(
        ["2D", "cview"], min_length=1, description="Kinds of images: digital mammograms, and synthetic ones (C-view)."
    )
    size: Pixels | tuple[Pixels, Pixels] = Field(
        (64, 48), description="Pixels that the images are resized to: height and width alike, or [height, width]."
    )
    test_patients: int = Field(
        500, ge=2, description="Patients drawn as the test split, as in the paper; in place of the share `test`."
    )
