"""Where datasets come from: one model of options per source, chosen by its `source` key."""

from typing import Annotated

from pydantic import Field

from tailrisk.config.sources.base import GROUPING, RESERVED, UNREAD, FileSource, Form, ImageSource, Source
from tailrisk.config.sources.chest import Chexpert, MimicCxr, NihChestXray14, Padchest
from tailrisk.config.sources.ecg import PtbXl
from tailrisk.config.sources.embedded import BreastCancer, Simulated
from tailrisk.config.sources.encounters import Diabetes130, Eicu, MimicIv, MimicIvEd
from tailrisk.config.sources.own import Columns, Images, Manifest, Signals, Table
from tailrisk.config.sources.pictures import Embed, Fairvision, Fitzpatrick17k

AnySource = Annotated[
    BreastCancer
    | Simulated
    | Diabetes130
    | MimicIvEd
    | MimicIv
    | Eicu
    | NihChestXray14
    | Chexpert
    | MimicCxr
    | Padchest
    | Fitzpatrick17k
    | Fairvision
    | Embed
    | PtbXl
    | Table
    | Images
    | Signals,
    Field(discriminator="source"),
]

__all__ = [
    "GROUPING",
    "RESERVED",
    "UNREAD",
    "AnySource",
    "BreastCancer",
    "Chexpert",
    "Columns",
    "Diabetes130",
    "Eicu",
    "Embed",
    "Fairvision",
    "FileSource",
    "Fitzpatrick17k",
    "Form",
    "ImageSource",
    "Images",
    "Manifest",
    "MimicCxr",
    "MimicIv",
    "MimicIvEd",
    "NihChestXray14",
    "Padchest",
    "PtbXl",
    "Signals",
    "Simulated",
    "Source",
    "Table",
]
