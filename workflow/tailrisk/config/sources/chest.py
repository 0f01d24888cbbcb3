"""Chest radiographs."""

from typing import ClassVar, Literal

from pydantic import Field

from tailrisk.config.sources.base import SPLITS_HELP, ImageSource, Splits

Uncertain = Literal["positive", "negative", "unobserved"]
UNCERTAIN_HELP = "What a finding that is stated as uncertain (-1) counts as; unobserved ones are left out of the loss."
CHEST_FINDINGS = "All 14 labels (findings), the five of the CheXpert competition (competition), or no finding against "
CHEST_FINDINGS += "any (no-finding)."


class NihChestXray14(ImageSource):
    """NIH ChestX-ray14: 112,120 frontal radiographs of 30,805 patients, 14 findings (Wang et al., CVPR 2017)."""

    terms: ClassVar[str] = (
        "No restriction on use; cite Wang et al., CVPR 2017, and acknowledge the NIH Clinical Center as provider "
        "(https://nihcc.app.box.com/v/ChestXray-NIHCC)"
    )
    access: ClassVar[str] = (
        "Open: download the images and Data_Entry_2017_v2020.csv from https://nihcc.app.box.com/v/ChestXray-NIHCC and "
        "unpack all archives below one folder."
    )
    source: Literal["nih_chestxray14"]
    path: str = Field(description="Folder with the table of labels and, in it or anywhere below it, the images.")
    table: str = Field(
        "Data_Entry_2017_v2020.csv", description="Table of labels in that folder; .csv.gz is found as well."
    )
    target: Literal["finding", "findings", "view"] = Field(
        "finding",
        description="Any finding against none (finding), the 14 findings (findings), or the view AP against PA (view).",
    )
    splits: Splits = Field(
        "drawn", description=SPLITS_HELP + " Official: test_list.txt tests, train_val_list.txt is audited."
    )
    show_inputs: bool = Field(True, description="Show a few random images on the dataset's card in the report.")


class Chexpert(ImageSource):
    """CheXpert: 224,316 radiographs of 65,240 patients, 14 findings (Irvin et al., AAAI 2019)."""

    terms: ClassVar[str] = "Stanford University Dataset Research Use Agreement; no redistribution"
    access: ClassVar[str] = (
        "Register with Stanford AIMI (https://stanfordaimi.azurewebsites.net), accept the agreement, and download "
        "CheXpert-v1.0-small or CheXpert-v1.0; race and ethnicity come from CHEXPERT DEMO.xlsx, offered there too. The "
        "test set is a download of its own, with CheXlocalize: put test/ and its table beside train.csv."
    )
    source: Literal["chexpert"]
    path: str = Field(
        description="Folder with train.csv and train/, such as CheXpert-v1.0-small, or with the unpacked batches "
        '"CheXpert-v1.0 batch 1 (validate & csv)" to 4 of the full size; its name may be any.'
    )
    demographics: str | None = Field(
        None, description="CHEXPERT DEMO.xlsx (or the same as CSV), for the groups race and ethnicity."
    )
    target: Literal["findings", "competition", "no-finding"] = Field("findings", description=CHEST_FINDINGS)
    uncertain: Uncertain = Field("positive", description=UNCERTAIN_HELP)
    views: Literal["all", "frontal"] = Field("all", description="Frontal and lateral images, or frontal ones only.")
    splits: Splits = Field(
        "drawn",
        description="Which patients are audited: a draw from train.csv by `test` and `validation`, or all of train.csv "
        "but a drawn validation part, with valid.csv (and test.csv or test_labels.csv where it is there) as the test "
        "split (official). valid.csv alone has no positive image of some rare findings, with which `findings` cannot "
        "be tested.",
    )


class MimicCxr(ImageSource):
    """MIMIC-CXR-JPG: 377,110 radiographs of 65,379 patients, 14 findings (Johnson et al., 2019)."""

    terms: ClassVar[str] = "PhysioNet Credentialed Health Data License 1.5.0; no redistribution"
    access: ClassVar[str] = (
        "Credentialed PhysioNet account with human-subjects training; sign the agreement of "
        "https://physionet.org/content/mimic-cxr-jpg and download files/ and the tables; sex, age, race and insurance "
        "need MIMIC-IV (https://physionet.org/content/mimiciv)."
    )
    source: Literal["mimic_cxr"]
    path: str = Field(description="Folder with files/ and the tables mimic-cxr-2.0.0-*.csv or .csv.gz, as downloaded.")
    mimic_iv: str | None = Field(
        None, description="Folder of MIMIC-IV with hosp/, for the groups sex, age, race and insurance."
    )
    labeler: Literal["negbio", "chexpert"] = Field("negbio", description="Whose labels; the paper uses NegBio's.")
    target: Literal["findings", "competition", "no-finding"] = Field("findings", description=CHEST_FINDINGS)
    uncertain: Uncertain = Field("positive", description=UNCERTAIN_HELP)
    views: Literal["all", "frontal"] = Field("all", description="All images, or those with view AP or PA only.")
    splits: Splits = Field(
        "drawn", description=SPLITS_HELP + " Official: train is audited, validate validates, test tests."
    )


class Padchest(ImageSource):
    """PadChest: 160,868 radiographs of about 67,000 patients (Bustos et al., Medical Image Analysis 2020)."""

    terms: ClassVar[str] = "PadChest Dataset Research Use Agreement (BIMCV); no redistribution"
    access: ClassVar[str] = (
        "Ask at https://bimcv.cipf.es/bimcv-projects/padchest, accept the agreement, and unpack all archives below one "
        "folder beside the table of labels."
    )
    source: Literal["padchest"]
    path: str = Field(description="Folder with the table of labels and, in it or anywhere below it, the images.")
    table: str = Field(
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        description="Table of labels in that folder; .csv.gz is found as well.",
    )
    target: Literal["findings", "normal"] = Field(
        "findings", description="Labels that at least `least` images bear (findings), or normal against abnormal."
    )
    least: int = Field(
        1000, ge=1, description="Images that a label needs to become a class of `findings`, or of that group variable."
    )
    views: Literal["all", "frontal"] = Field(
        "frontal", description="Projections PA, AP and AP_horizontal (frontal), or those, lateral and costal (all)."
    )
    physicians_only: bool = Field(
        False, description="Only images that a physician labelled, not those that a network labelled."
    )
