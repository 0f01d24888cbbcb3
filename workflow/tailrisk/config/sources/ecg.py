"""Electrocardiograms."""

from typing import ClassVar, Literal

from pydantic import Field

from tailrisk.config.sources.base import SPLITS_HELP, FileSource, Form, Splits


class PtbXl(FileSource):
    """PTB-XL: 21,799 12-lead ECGs of 10 s from 18,869 patients, 5 superclasses (Wagner et al., Sci. Data 2020)."""

    form: ClassVar[Form] = "signal"
    terms: ClassVar[str] = "CC BY 4.0 (PhysioNet, doi 10.13026/kfzx-aw45)"
    access: ClassVar[str] = "Open: download https://physionet.org/content/ptb-xl/1.0.3 (1.8 GB, or 3 GB unpacked)."
    source: Literal["ptbxl"]
    path: str = Field(description="Folder with ptbxl_database.csv, scp_statements.csv and records100 or records500.")
    rate: Literal[100, 500] = Field(100, description="Samples per second of the signals to read.")
    splits: Splits = Field("drawn", description=SPLITS_HELP + " Official: fold 9 validates, fold 10 tests.")
    show_inputs: bool = Field(True, description="Show a few random ECGs on the dataset's card in the report.")
