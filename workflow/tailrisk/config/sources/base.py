"""What every source has in common, and what those whose records lie one a file have."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from tailrisk.config.base import Strict

RESERVED = {"record", "patient", "control", "n_records", "p_value", "q_value"}
RESERVED |= {"auc", "auc_mean", "auc_low", "auc_high", "auc_median_unbiased", "auc_empirical"}
RESERVED |= {"auc_joint", "joint_low", "joint_high", "joint_p", "joint_q"}
"""Columns of the audit's tables, which group variables stand beside."""


GROUPING = {"groups", "separators"}
"""Options that decide the group variables of a dataset, and nothing else."""
UNREAD = GROUPING | {"url", "title", "licence", "max_quarantined", "show_inputs"}
"""Options that change no prepared dataset, only its groups, what is said of it, or whether it is made at all."""

Form = Literal["table", "signal", "image"]


class Source(Strict):
    """Options that every source shares. Splits are drawn per patient from a hash of the patient's id."""

    form: ClassVar[Form] = "table"
    terms: ClassVar[str] = ""
    """Licence or terms of use, shown in the report."""
    access: ClassVar[str] = ""
    """How to get the data, for the reference of the configuration."""
    module: ClassVar[str] = ""
    """Module of `tailrisk.datasets` that reads the source; it is called as the source where nothing else is stated."""

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

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if "source" in cls.model_fields and not cls.module:
            (cls.module,) = get_args(cls.model_fields["source"].annotation)

    @model_validator(mode="after")
    def _leave_audit_patients(self) -> "Source":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must leave a share of patients for the audit")
        return self


class FileSource(Source):
    """Options of sources whose records lie in a file each."""

    max_quarantined: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Share of the records whose file may be missing, unreadable or constant: these are left out and "
        "listed in excluded.parquet; with more of them, preparing stops.",
    )
    show_inputs: bool = Field(
        False,
        description="Show a few random records on the dataset's card in the report. Only where the licence allows.",
    )


LEAST, MOST = 8, 4096
Pixels = Annotated[int, Field(ge=LEAST, le=MOST)]


class ImageSource(FileSource):
    """Options of sources of images."""

    form: ClassVar[Form] = "image"
    size: Pixels | tuple[Pixels, Pixels] = Field(
        64, description="Pixels that the images are resized to: height and width alike, or [height, width]."
    )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


Splits = Literal["drawn", "official"]
SPLITS_HELP = (
    "Which patients are audited and which only test performance: drawn by `test` and `validation`, or the split of the "
    "source, of whose training part `validation` is drawn where the source brings none."
)
