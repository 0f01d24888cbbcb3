"""Where datasets come from: one model of options per source, chosen by its `source` key."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tailrisk.config.base import Strict, suggestion

RESERVED = {"record", "patient", "control", "n_records", "p_value", "q_value"}
RESERVED |= {"auc", "auc_mean", "auc_low", "auc_high", "auc_median_unbiased", "auc_empirical"}
RESERVED |= {"auc_joint", "joint_low", "joint_high", "joint_p", "joint_q"}
"""Columns of the audit's tables, which group variables stand beside."""


Form = Literal["table", "signal", "image"]


class Source(Strict):
    """Options that every source shares. Splits are drawn per patient from a hash of the patient's id."""

    form: ClassVar[Form] = "table"
    validation: float = Field(
        0.1, gt=0, lt=1, description="Share of patients kept for early stopping: never trained on or audited."
    )
    test: float = Field(
        0.15, gt=0, lt=1, description="Share of patients whose records measure diagnostic performance only."
    )
    controls: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the audited patients that are drawn into halves but never trained on: negative "
        "controls, whose risk is none by construction.",
    )
    split_seed: int = Field(0, ge=0, description="Seed of the split into audit, validation and test patients.")

    @model_validator(mode="after")
    def _leave_audit_patients(self) -> "Source":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share of patients for the audit")
        return self


class BreastCancer(Source):
    """Wisconsin breast cancer data as shipped with scikit-learn: 569 patients, 30 features, malignant or not."""

    source: Literal["breast_cancer"]


class Simulated(Source):
    """A cohort with known truth: typical, rare and atypical patients with 1 to `max_records` similar records."""

    source: Literal["simulated"]
    patients: int = Field(600, ge=20, description="Number of patients.")
    features: int = Field(30, ge=2, description="Number of features of a record.")
    max_records: int = Field(20, ge=1, description="Most records that a patient can have.")
    atypical: float = Field(
        0.04,
        ge=0,
        lt=0.5,
        description="Share of patients whose records carry the opposite label of their kind.",
    )
    rare: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="Share of patients in a rare subgroup with its own relation to the label.",
    )
    seed: int = Field(0, ge=0, description="Seed of the simulation.")
    controls: float = Field(
        0.15, ge=0, lt=1, description="Share of audited patients that are never trained on (pure noise)."
    )


class Diabetes130(Source):
    """Diabetes 130-US hospitals 1999-2008 (UCI 296): hospital encounters and readmission."""

    source: Literal["diabetes130"]
    path: str = Field(description="diabetic_data.csv, the folder that holds it, or the zip archive of the source.")
    target: Literal["early", "any"] = Field(
        "early", description="Readmission within 30 days (early), or at any time (any), against the rest."
    )
    url: str | None = Field(
        None,
        description="Where the rule `download` fetches `path` from; never used without asking for that rule.",
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="Checksum that diabetic_data.csv must have."
    )


class NihChestXray14(Source):
    """NIH ChestX-ray14: frontal chest radiographs with 14 findings (Wang et al., CVPR 2017)."""

    form: ClassVar[Form] = "image"
    source: Literal["nih_chestxray14"]
    path: str = Field(description="Folder with the table of labels and, in it or anywhere below it, the images.")
    table: str = Field(
        "Data_Entry_2017_v2020.csv",
        description="Table of labels in that folder; every image that it names must be there and readable.",
    )
    target: Literal["finding", "findings", "view"] = Field(
        "finding",
        description="Any finding against none (finding), the 14 findings (findings), or the view AP against PA (view).",
    )
    size: int = Field(64, ge=8, description="Height and width in pixels that the images are resized to.")


class PtbXl(Source):
    """PTB-XL: 12-lead ECGs of 10 seconds with five diagnostic superclasses (Wagner et al., Scientific Data 2020)."""

    form: ClassVar[Form] = "signal"
    source: Literal["ptbxl"]
    path: str = Field(description="Folder with ptbxl_database.csv, scp_statements.csv and records100 or records500.")
    rate: Literal[100, 500] = Field(100, description="Samples per second of the signals to read.")


class Table(Source):
    """Any CSV or Parquet table with a patient column, a label and features: an audit of one's own data."""

    source: Literal["table"]
    path: str = Field(description="CSV (also compressed) or Parquet file, one row per record.")
    patient: str = Field(description="Column with the patient's id.")
    label: str = Field(description="Column with the class; two values make a binary task, more a multi-class one.")
    record: str | None = Field(None, description="Column with the record's id; the row number when absent.")
    numeric: list[str] = Field([], description="Numeric feature columns; standardised.")
    categorical: list[str] = Field([], description="Categorical feature columns; one indicator per level.")
    groups: list[str] = Field([], description="Columns that describe subgroups; never features by themselves.")
    separators: dict[str, str] = Field(
        {}, description="Group columns that hold several labels in one value, with what stands between the labels."
    )
    split: str | None = Field(
        None, description="Column with audit, validation or test for every row, in place of the drawn split."
    )
    missing: Literal["error", "indicator"] = Field(
        "error",
        description="Missing feature values: stop, or add an indicator (numeric: with the median filled in; "
        "categorical: a level of its own).",
    )
    title: str | None = Field(None, description="Name of the dataset in the report.")
    licence: str | None = Field(None, description="Licence or terms of access, shown in the report.")

    @model_validator(mode="after")
    def _have_features(self) -> "Table":
        if not self.numeric and not self.categorical:
            raise ValueError("name at least one feature column under numeric or categorical")
        features = [*self.numeric, *self.categorical]
        for kind, names in (("feature", features), ("group", self.groups)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"the {kind} column '{twice[0]}' is listed twice")
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


AnySource = Annotated[
    BreastCancer | Simulated | Diabetes130 | NihChestXray14 | PtbXl | Table, Field(discriminator="source")
]
