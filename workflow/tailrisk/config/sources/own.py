"""Data of one's own: a table, or a manifest of images or signals."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tailrisk.config.base import Strict, suggestion
from tailrisk.config.sources.base import RESERVED, FileSource, Form, ImageSource, Source


class Columns(Strict):
    """Where a table of one's own says who a record belongs to, and what is known of it."""

    path: str = Field(description="CSV (also compressed) or Parquet file, one row per record.")
    patient: str = Field(description="Column with the patient's id.")
    record: str | None = Field(None, description="Column with the record's id; the row's number where null.")
    groups: list[str] = Field([], description="Columns that describe subgroups; never features by themselves.")
    separators: dict[str, str] = Field(
        {}, description="Group columns that hold several labels in one value, with what stands between the labels."
    )
    split: str | None = Field(
        None, description="Column with audit, validation or test for every row, in place of the drawn split."
    )
    title: str | None = Field(None, description="Name of the dataset in the report.")
    licence: str | None = Field(None, description="Licence or terms of access, shown in the report.")

    @model_validator(mode="after")
    def _groups_can_stand(self) -> "Columns":
        twice = sorted({name for name in self.groups if self.groups.count(name) > 1})
        if twice:
            raise ValueError(f"the group column '{twice[0]}' is listed twice")
        for name, separator in self.separators.items():
            if name not in self.groups:
                raise ValueError(
                    f"separators: '{name}' is not one of the group columns; {suggestion(name, self.groups)}"
                )
            if not separator:
                raise ValueError(f"separators: what stands between the labels of '{name}' cannot be empty")
        reserved = sorted(RESERVED.intersection(self.groups))
        if reserved:
            raise ValueError(f"a group column cannot be called '{reserved[0]}', a column of the audit's own: rename it")
        return self


class Table(Columns, Source):
    """Any CSV or Parquet table with a patient column, a label and features: an audit of one's own data."""

    terms: ClassVar[str] = "your own"
    access: ClassVar[str] = "Your own: a table with one row a record."
    source: Literal["table"]
    label: str = Field(description="Column with the class; two values make a binary task, more a multi-class one.")
    numeric: list[str] = Field([], description="Numeric feature columns; standardised.")
    categorical: list[str] = Field([], description="Categorical feature columns; one indicator per level.")
    missing: Literal["error", "indicator"] = Field(
        "error",
        description="Missing feature values: stop, or add an indicator (numeric: with the median filled in; "
        "categorical: a level of its own).",
    )

    @model_validator(mode="after")
    def _have_features(self) -> "Table":
        features = [*self.numeric, *self.categorical]
        if not features:
            raise ValueError("name at least one feature column under numeric or categorical")
        twice = sorted({name for name in features if features.count(name) > 1})
        if twice:
            raise ValueError(f"the feature column '{twice[0]}' is listed twice")
        return self


class Manifest(Columns):
    """A table of one's own whose rows name a file each."""

    file: str = Field(
        description="Column with the path of the record's file, from `folder`; a path that starts with / stands for "
        "itself."
    )
    folder: str | None = Field(None, description="Folder that the files' paths start from; null for the table's own.")
    suffix: str = Field("", description="What is to be added to every path, such as .png where the table has it not.")
    label: str | list[str] = Field(
        description="Column with the class (two values make a binary task, more a multi-class one), or a list of "
        "columns of 0 and 1, blank where not observed, for several labels at once. Rows where none is observed are "
        "left out."
    )

    @model_validator(mode="after")
    def _labels_are_told_apart(self) -> "Manifest":
        if isinstance(self.label, list):
            if len(self.label) < 2:
                raise ValueError("label: a list holds two columns or more; for one label, give its column alone")
            twice = sorted({name for name in self.label if self.label.count(name) > 1})
            if twice:
                raise ValueError(f"the label column '{twice[0]}' is listed twice")
        return self


class Images(Manifest, ImageSource):
    """A manifest and a folder of images (PNG, JPEG and whatever Pillow reads, or DICOM, by the suffix .dcm)."""

    terms: ClassVar[str] = "your own"
    access: ClassVar[str] = "Your own: a table with one row an image, and the images' files."
    module: ClassVar[str] = "own_images"
    source: Literal["images"]
    colour: bool = Field(False, description="Three channels of colour instead of one of gray.")


class Signals(Manifest, FileSource):
    """A manifest and a folder of signals: WFDB records, or .npy arrays [leads, samples]."""

    form: ClassVar[Form] = "signal"
    terms: ClassVar[str] = "your own"
    access: ClassVar[str] = "Your own: a table with one row a signal, and the signals' files."
    module: ClassVar[str] = "own_signals"
    source: Literal["signals"]
    leads: list[str] = Field(
        min_length=1,
        description="Names of the leads, in the order in which models see them. Those of WFDB records are found by "
        "these names (AVR is aVR); .npy arrays must have one row for each.",
    )
    samples: int = Field(ge=8, description="Samples per lead of every record.")
    rate: float | None = Field(
        None, gt=0, description="Samples per second that WFDB records must have; null takes any."
    )
    units: str | list[str] | None = Field(
        "mV",
        description="Physical unit of the leads, or one for each: volts of WFDB records (V, mV, uV) are converted to "
        "it, and another unit must be the same; null takes the values as they are. Arrays have no units.",
    )

    @model_validator(mode="after")
    def _leads_can_be_told_apart(self) -> "Signals":
        names = [name.casefold() for name in self.leads]
        twice = sorted({name for name in self.leads if names.count(name.casefold()) > 1})
        if twice:
            raise ValueError(f"the lead '{twice[0]}' is listed twice")
        if isinstance(self.units, list) and len(self.units) != len(self.leads):
            raise ValueError(f"units: {len(self.units)} are listed for {len(self.leads)} leads")
        return self
