"""Hospital encounters and stays as tables of features."""

from typing import ClassVar, Literal

from pydantic import Field

from tailrisk.config.sources.base import Source

MIN_HOURS = (
    "Hours that a stay lasts at least; shorter ones are left out. Below 24, the outcome of some is known before their "
    "first day, which the features describe, is over."
)


class Diabetes130(Source):
    """Diabetes 130-US hospitals 1999-2008 (UCI 296): hospital encounters and readmission."""

    terms: ClassVar[str] = "CC BY 4.0 (UCI Machine Learning Repository, doi 10.24432/C5230J)"
    access: ClassVar[str] = (
        "Open: https://archive.ics.uci.edu/dataset/296, or `snakemake download --configfile config/open.yaml`."
    )
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


class MimicIvEd(Source):
    """MIMIC-IV-ED: 425,087 emergency stays; 64 features at triage and hospitalisation (Xie et al., 2022)."""

    terms: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0 (the demo: ODbL 1.0); no redistribution"
    access: ClassVar[str] = (
        "Credentialed PhysioNet account with human-subjects training; sign the agreements of "
        "https://physionet.org/content/mimic-iv-ed and https://physionet.org/content/mimiciv. Open demos of both, with "
        "100 patients: mimic-iv-ed-demo and mimic-iv-demo."
    )
    source: Literal["mimic_iv_ed"]
    path: str = Field(description="Folder of MIMIC-IV-ED with ed/, as downloaded.")
    mimic_iv: str = Field(
        description="Folder of MIMIC-IV with hosp/ and icu/: ages, insurance, earlier stays and earlier diagnoses."
    )
    history: int = Field(
        1780,
        ge=1,
        description="Days before a stay in which discharges bring earlier diagnoses; 1780, the benchmark's five years.",
    )


class MimicIv(Source):
    """MIMIC-IV: 73,181 ICU stays; features of the first day and death in hospital (Johnson et al., 2023)."""

    terms: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0 (the demo: ODbL 1.0); no redistribution"
    access: ClassVar[str] = (
        "Credentialed PhysioNet account with human-subjects training; sign the agreement of "
        "https://physionet.org/content/mimiciv. Open demo with 100 patients: mimic-iv-demo."
    )
    source: Literal["mimic_iv"]
    path: str = Field(description="Folder of MIMIC-IV with hosp/ and icu/, as downloaded.")
    vitals: bool = Field(
        True, description="Vital signs of the first day, from icu/chartevents (by far the largest table)."
    )
    min_hours: float = Field(24, ge=0, description=MIN_HOURS)


class Eicu(Source):
    """eICU 2.0: 200,859 ICU stays in 208 hospitals; features of the first day and death in hospital."""

    terms: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0 (the demo: ODbL 1.0); no redistribution"
    access: ClassVar[str] = (
        "Credentialed PhysioNet account with human-subjects training; sign the agreement of "
        "https://physionet.org/content/eicu-crd. Open demo with 2,520 stays: eicu-crd-demo."
    )
    source: Literal["eicu"]
    path: str = Field(description="Folder with the tables patient, apacheApsVar and apachePredVar (.csv or .csv.gz).")
    laboratory: bool = Field(True, description="Laboratory values of the first day, from the table lab.")
    min_hours: float = Field(24, ge=0, description=MIN_HOURS)
