"""EMBED, FairVision and Fitzpatrick 17k in small: their layouts as documented, with made-up patients and pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

# The headers of the reduced tables of EMBED, which has one without a name.
CLINICAL = (
    ",empi_anon,acc_anon,desc,numfind,side,asses,tissueden,bside,GENDER_DESC,RACE_DESC,ETHNIC_GROUP_DESC,"
    "MARITAL_STATUS_DESC,age_at_study,study_date_anon,procdate_anon,cohort_num,path_severity,total_L_find,total_R_find,"
    "first_3_zip"
)
METADATA = (
    ",cohort_num,empi_anon,acc_anon,study_date_anon,StudyDescription,SeriesDescription,FinalImageType,"
    "ImageLateralityFinal,ViewPosition,spot_mag,anon_dicom_path,num_roi,ROI_coords,SRC_DST,match_level,Manufacturer,"
    "ManufacturerModelName,PatientSex,ProtocolName,SeriesNumber,SeriesTime,StudyID,WindowCenter,WindowWidth,"
    "has_pix_array,category,VOILUTFunction,WindowCenterWidthExplanation"
)
ELSEWHERE = "/mnt/NAS2/mammo/anon_dicom/"
"""Where the images lay when the table was made."""
FAIRVISION = {
    "AMD": ["normal", "early amd", "intermediate amd", "late amd"],
    "DR": ["non-vision threatening dr", "vision threatening dr"],
    "Glaucoma": ["no", "yes"],
}


def dicom(file: Path, stored: np.ndarray, **attributes) -> None:
    """A DICOM file of one gray image of 16 bits (12 stored), uncompressed; `attributes` are added or replace others."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = SecondaryCaptureImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3.4"
    image.Rows, image.Columns = stored.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = (
        8 * stored.itemsize,
        8 * stored.itemsize,
        8 * stored.itemsize - 1,
    )
    image.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    image.PixelData = stored.tobytes()
    for name, value in attributes.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(file, enforce_file_format=True)


class Embed:
    """Rows of the two tables of EMBED, to be added exam by exam and written to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[dict] = []
        self.files: list[dict] = []

    def exam(
        self, patient: int, findings: Sequence[dict] = ({},), images: Sequence[dict] = ({},), number: int = 0
    ) -> None:
        """An exam with `findings` and `images`, of which only what is unusual is stated."""
        exam = 4_000_000_000_000_000 + 10 * patient + number
        for finding in findings:
            usual = {
                "empi_anon": patient,
                "acc_anon": exam,
                "desc": "MG Screening Bilateral",
                "numfind": 1,
                "asses": "N",
                "tissueden": "2.0",
                "GENDER_DESC": "Female",
                "RACE_DESC": "Caucasian or White",
                "ETHNIC_GROUP_DESC": "Non-Hispanic or Latino",
                "age_at_study": "54.9",
            }
            self.findings.append(usual | finding)
        for place, image in enumerate(images):
            name = image.pop("name", f"{exam}.{place}")
            usual = {
                "empi_anon": patient,
                "acc_anon": exam,
                "FinalImageType": "2D",
                "ImageLateralityFinal": "L",
                "ViewPosition": "CC",
                "spot_mag": "0.0",
                "anon_dicom_path": f"{ELSEWHERE}cohort_1/{patient}/{exam}/{name}.dcm",
            }
            self.files.append(usual | image)

    def write(self) -> Path:
        """Both reduced tables, in tables/."""
        for name, header, rows in (("clinical", CLINICAL, self.findings), ("metadata", METADATA, self.files)):
            table = pd.DataFrame(rows).reindex(columns=header.split(","))
            path = self.folder / f"tables/EMBED_OpenData_{name}_reduced.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            table.assign(**{"": range(len(table))}).to_csv(path, index=False)
        return self.folder

    def pixels(self) -> None:
        """A DICOM file in images/ for every row that names one: a breast at the left, brighter the denser it is."""
        density = {row["acc_anon"]: float(row["tissueden"] or 0) for row in self.findings}
        for row in self.files:
            if not row["anon_dicom_path"]:
                continue
            rng = np.random.default_rng(int(row["acc_anon"]) % 1000)
            stored = rng.integers(0, 200, (24, 20), dtype=np.uint16)
            stored[:, :12] += np.uint16(700 * density.get(row["acc_anon"], 1))
            file = self.folder / "images" / row["anon_dicom_path"].removeprefix(ELSEWHERE)
            dicom(file, stored, BitsStored=12, HighBit=11, WindowCenter="2047", WindowWidth="4096")


def fairvision(folder: Path, each: int = 60, file: str = "slo_fundus_{}.jpg") -> Path:
    """`each` patients a disease, of whom a fifth tests and a sixth validates; every seventh image is nearly black."""
    for disease, classes in FAIRVISION.items():
        rows = []
        for number in range(1, each + 1):
            use = "test" if number % 5 == 0 else "validation" if number % 6 == 0 else "training"
            kind = classes[(number // 30 + number) % len(classes)]
            rows.append(
                {
                    "filename": f"data_{number:05d}.npz",
                    "age": f"{20 + number}.59",
                    "gender": ["female", "male"][number % 2],
                    "race": ["asian", "black", "white"][number % 3],
                    "ethnicity": ["hispanic", "non-hispanic", "unknown"][number % 3],
                    "language": "english",
                    "maritalstatus": "single",
                    **({"md": "-3.63"} if disease == "Glaucoma" else {}),
                    disease.lower(): kind,
                    "use": use,
                }
            )
            rng = np.random.default_rng([number, *disease.encode()])
            pixels = rng.integers(0, 2 if number % 7 == 0 else 60 * (1 + classes.index(kind)), (32, 40), dtype=np.uint8)
            _fundus(folder / disease / use.title() / file.format(f"{number:05d}"), pixels)
        (folder / disease / "ReadMe").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / disease / f"ReadMe/data_summary_{disease.lower()}.csv", index=False)
    return folder


def _fundus(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npz":
        np.savez(file, slo_fundus=pixels, oct_bscans=np.zeros((2, 4, 4), np.uint8), race=np.array(2))
    else:
        Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(file, quality=95)


def photographs(folder: Path, names: Sequence[str]) -> Path:
    """A small colour JPEG file <name>.jpg for each name, reddish by its last digit."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 100, (24, 20, 3), dtype=np.uint8)
        pixels[..., 0] += np.uint8(9 * int(name[-1], 16))
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    return folder
