"""Sources that need no files."""

from typing import ClassVar, Literal

from pydantic import Field

from tailrisk.config.sources.base import Source


class BreastCancer(Source):
    """Wisconsin breast cancer data as shipped with scikit-learn: 569 patients, 30 features, malignant or not."""

    terms: ClassVar[str] = "CC BY 4.0 (UCI Machine Learning Repository, doi 10.24432/C5DW2B)"
    access: ClassVar[str] = "Open: comes with scikit-learn, which is installed with this package."
    source: Literal["breast_cancer"]


class Simulated(Source):
    """A cohort with known truth: typical, rare and atypical patients with 1 to `max_records` similar records."""

    terms: ClassVar[str] = "Simulated; no patient data"
    access: ClassVar[str] = "Made by this package."
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
