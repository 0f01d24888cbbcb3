"""PTB-XL: real files against independent readers, and what is refused."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from real_sources import edit, refused, source

from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import prepare, read
from tailrisk.datasets.ptbxl import LEADS, SUPERCLASSES, needs
from tailrisk.errors import UserError
from tailrisk.tables import read_table


@pytest.fixture
def few_signals(ptbxl_folder, tmp_path) -> Path:
    """The first 6 rows of PTB-XL with their signals at both rates."""
    pd.read_csv(ptbxl_folder / "ptbxl_database.csv", dtype=str).head(6).to_csv(
        tmp_path / "ptbxl_database.csv", index=False
    )
    shutil.copy(ptbxl_folder / "scp_statements.csv", tmp_path)
    for rate in ("records100", "records500"):
        (tmp_path / rate / "00000").mkdir(parents=True)
        for file in sorted((ptbxl_folder / rate / "00000").iterdir())[:12]:
            shutil.copy(file, tmp_path / rate / "00000")
    return tmp_path


def dat(file: Path) -> np.ndarray:
    """A signal [12, samples] in millivolts from the little-endian 16-bit file, lead by lead within a sample."""
    return np.fromfile(file, "<i2").reshape(-1, 12).T / 1000


def test_ptbxl_is_prepared(ptbxl_folder, ptbxl_prepared) -> None:
    card, data = json.loads((ptbxl_prepared / "card.json").read_text()), open_prepared(ptbxl_prepared)
    assert (card["n_records"], card["n_patients"], card["patients_with_several_records"]) == (500, 466, 25)
    assert card["classes"] == {"NORM": 297, "MI": 73, "STTC": 96, "CD": 78, "HYP": 40}
    assert card["input_shape"] == [12, 1000]
    assert sorted(card["checksums"]) == ["ptbxl_database.csv", "scp_statements.csv"]
    assert data.features == ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert data.inputs.dtype == np.float32
    assert pd.DataFrame({"p": data.patient, "s": data.split}).groupby("p")["s"].nunique().max() == 1
    assert data.patient[0] == "15709"
    for row in range(0, 500, 7):
        # The quotient of two whole numbers, rounded once to float32: not a bit of difference.
        expected = dat(ptbxl_folder / f"records100/00000/{int(data.record[row]):05d}_lr.dat")
        assert np.array_equal(data.inputs[row], expected.astype(np.float32))


def test_ptbxl_labels_and_groups(ptbxl_folder, ptbxl_prepared) -> None:
    with (ptbxl_folder / "scp_statements.csv").open() as file:
        classes = {row[""]: row["diagnostic_class"] for row in csv.DictReader(file) if row["diagnostic"] == "1.0"}
    data, frame = open_prepared(ptbxl_prepared), read_table(ptbxl_prepared / "groups.parquet", "groups")
    with (ptbxl_folder / "ptbxl_database.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = []
    for row, labels in zip(rows, data.labels, strict=True):
        found = {classes[code] for code in re.findall(r"'([^']+)':", row["scp_codes"]) if code in classes}
        assert {SUPERCLASSES[number] for number in np.flatnonzero(labels)} == found
        kinds.append(found.pop() if len(found) == 1 else "several" if found else "none")
    assert frame["superclass"].astype(str).tolist() == kinds
    assert set(kinds) == {*SUPERCLASSES, "several", "none"}
    assert frame["sex"].value_counts().to_dict() == {"female": 251, "male": 249}
    assert frame["extra_beats"].value_counts().to_dict() == {"none": 471, "present": 29}
    ages = Counter("unknown" if not row["age"] else int(float(row["age"])) // 20 for row in rows)
    assert frame["age"].isna().sum() == ages["unknown"] == 4
    assert (frame["age"] == "80 and over").sum() == ages[4]


def test_ptbxl_at_500_samples_per_second(few_signals, ptbxl_folder, tmp_path) -> None:
    files = read(source(source="ptbxl", path=str(few_signals), rate=500)).inputs
    assert (files.shape, len(files.paths)) == ((12, 5000), 6)
    for number, file in enumerate(files.paths, start=1):
        expected = dat(few_signals / f"records500/00000/{number:05d}_hr.dat")
        assert np.array_equal(files.decode(file), expected.astype(np.float32))
    with pytest.raises(UserError, match=r"of 500 signals cannot be used so far, more than the share 0.01 .*00051_hr"):
        prepare("p", source(source="ptbxl", path=str(ptbxl_folder), rate=500), tmp_path / "p")
    shutil.rmtree(few_signals / "records500")
    refused(
        source(source="ptbxl", path=str(few_signals), rate=500),
        f"none of the 6 signals at 500 samples per second is in {few_signals}, such as records500/00000/00001_hr.hea: "
        "fetch them, or set `rate` to 100",
    )


def rewritten(stem: Path, samples: np.ndarray) -> None:
    """Write `samples` [n, 12] int16 into a record, with the checksums that belong to them in its header."""
    samples.astype("<i2").tofile(stem.with_suffix(".dat"))
    header, *lines = stem.with_suffix(".hea").read_text().splitlines()
    for lead, line in enumerate(lines[:12]):
        fields = line.split()
        fields[6] = str(int(samples[:, lead].astype(int).sum()) % 65536)
        lines[lead] = " ".join(fields)
    stem.with_suffix(".hea").write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def copied(ptbxl_folder, tmp_path) -> Path:
    """All 500 rows of the subset and their signals at 100 samples per second, as links that a test may replace."""
    for name in ("ptbxl_database.csv", "scp_statements.csv"):
        shutil.copy(ptbxl_folder / name, tmp_path)
    folder = tmp_path / "records100/00000"
    folder.mkdir(parents=True)
    for file in (ptbxl_folder / "records100/00000").iterdir():
        (folder / file.name).symlink_to(file)
    return tmp_path


def test_official_folds_end_to_end_and_unfit_signals_are_left_out(copied, tmp_path) -> None:
    """Of the records 3, 7 and 11, the samples are missing, damaged, and flat."""
    missing, damaged, flat = (copied / f"records100/00000/{number:05d}_lr" for number in (3, 7, 11))
    for stem in (missing, damaged, flat):
        header, content = stem.with_suffix(".hea").read_text(), bytearray(stem.with_suffix(".dat").read_bytes())
        for suffix in (".hea", ".dat"):
            stem.with_suffix(suffix).unlink()
        stem.with_suffix(".hea").write_text(header)
        content[5000] ^= 1
        if stem == damaged:
            stem.with_suffix(".dat").write_bytes(content)
    rewritten(flat, np.zeros((1000, 12), dtype=np.int16))
    edit(copied / "ptbxl_database.csv", 20, "age", "300")
    run = end_to_end(source(source="ptbxl", path=str(copied), splits="official"), tmp_path / "run")
    assert run.card["quarantined"] == {"constant": 1, "missing": 1, "unreadable": 1}
    assert [run.reason(name) for name in ("3", "7", "11")] == ["missing", "unreadable", "constant"]
    folds = pd.read_csv(copied / "ptbxl_database.csv", dtype=str).set_index("ecg_id")["strat_fold"]
    split = {"9": "validation", "10": "test"}
    assert run.records["split"].tolist() == [split.get(folds[name], "audit") for name in run.records["record"]]
    assert (run.records["split"] == "test").sum() == (folds == "10").sum() > 20
    assert run.groups["age"][run.record("20")] == "80 and over"
    assert run.card["expected"][:3] == [
        {"what": "rows", "expected": 21799, "found": 500},
        {"what": "records", "expected": 21799, "found": 500},
        {"what": "patients", "expected": 18869, "found": 466},
    ]
    assert run.card["expected"][3] == {"what": "class NORM", "expected": 9514, "found": 297}


def test_fold_out_of_range_is_refused(few_signals) -> None:
    edit(few_signals / "ptbxl_database.csv", 4, "strat_fold", "11")
    spec = source(source="ptbxl", path=str(few_signals), splits="official")
    refused(spec, "column 'strat_fold' is not a whole number from 1 to 10 in row 4")
    assert read(source(source="ptbxl", path=str(few_signals))).split is None


def test_leads_of_older_releases(few_signals) -> None:
    """Up to 1.0.2, headers wrote aVR, aVL and aVF."""
    before = read(source(source="ptbxl", path=str(few_signals))).inputs
    expected = [before.decode(file) for file in before.paths]
    for header in few_signals.rglob("*_lr.hea"):
        header.write_text(header.read_text().replace(" AV", " aV"))
    assert all(np.array_equal(before.decode(file), array) for file, array in zip(before.paths, expected, strict=True))


def test_what_ptbxl_needs(few_signals) -> None:
    spec = source(source="ptbxl", path=str(few_signals), splits="official")
    assert list(unmet(needs(spec))) == []
    shutil.rmtree(few_signals / "records100")
    table = few_signals / "ptbxl_database.csv"
    table.write_text(table.read_text().replace("strat_fold", "fold", 1))
    absent, column = sorted(unmet(needs(spec)), key=len)
    assert absent == f"{few_signals / 'records100'} does not exist"
    assert column.startswith(f"{table} has no column 'strat_fold'")


def test_damaged_signals_are_refused(few_signals) -> None:
    stem = few_signals / "records100/00000/00003_lr"
    header, content = stem.with_suffix(".hea"), stem.with_suffix(".dat").read_bytes()
    text = header.read_text()
    samples = np.frombuffer(content, "<i2").reshape(-1, 12)
    decode = read(source(source="ptbxl", path=str(few_signals))).inputs.decode

    def fault() -> str:
        with pytest.raises(UserError) as caught:
            decode(header)
        return str(caught.value)

    damaged = bytearray(content)
    damaged[5000] ^= 1
    stem.with_suffix(".dat").write_bytes(damaged)
    assert fault() == "its samples do not agree with the checksum in its header"
    stem.with_suffix(".dat").write_bytes(content[:-2400])
    assert "not a readable WFDB record" in fault()
    stem.with_suffix(".dat").unlink()
    with pytest.raises(FileNotFoundError):
        decode(header)
    stem.with_suffix(".dat").write_bytes(content)
    header.write_text(text.replace("V2", "V7"))
    assert fault().startswith("none of its leads is called V2: it has I, II, III, AVR")
    header.write_text(text.replace(" 0 V2", " 0 V3"))
    assert fault().startswith("none of its leads is called V2")
    header.write_text(text.replace("1000.0(0)/mV 16 0 -116", "1000.0(0)/mmHg 16 0 -116"))
    assert fault() == "lead V3 is in mmHg, not in mV"
    for damage in ("", "garbage", text[:200], text.replace(" 16 ", " 17 "), "\0" * 80):
        header.write_text(damage)
        assert "not a readable WFDB record" in fault()
    header.write_text(text.replace("00003_lr 12 100 1000", "00003_lr 12 250 1000"))
    assert fault() == "250 samples per second, not 100"
    header.write_text(text)
    lost = samples.copy()
    lost[17, LEADS.index("AVF")] = -32768  # the value of format 16 that stands for no value
    rewritten(stem, lost)
    assert fault() == "lead AVF has samples without a value"
    rewritten(stem, samples)
    assert header.read_text() == text
    assert np.array_equal(decode(header), (samples.T / 1000).astype(np.float32))
    # Other steps a volt, as they stand in the header, give other volts; microvolts are a thousandth of millivolts.
    header.write_text(text.replace("1000.0(0)/mV", "1.0(0)/uV"))
    assert np.array_equal(decode(header), (samples.T / 1000).astype(np.float32))
    header.write_text(text.replace("1000.0(0)/mV", "500.0(0)/mV"))
    assert np.array_equal(decode(header), (samples.T / 500).astype(np.float32))


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "sentence"),
    [
        ("ptbxl_database.csv", 3, "patient_id", "", "column 'patient_id' is blank in row 3"),
        ("ptbxl_database.csv", 2, "patient_id", "17.5", "column 'patient_id' is not a whole number in row 2"),
        ("ptbxl_database.csv", 5, "scp_codes", "{'NORM': ", "column 'scp_codes' is not a dictionary of statements in"),
        ("ptbxl_database.csv", 5, "scp_codes", "['NORM']", "column 'scp_codes' is not a dictionary of statements in"),
        ("ptbxl_database.csv", 5, "scp_codes", "{'ZZZ': 1.0}", "has statements that scp_statements.csv lacks: ZZZ"),
        ("ptbxl_database.csv", 1, "age", "old", "column 'age' is not an age in years in row 1"),
        ("scp_statements.csv", 1, "diagnostic_class", "ST", "column 'diagnostic_class' is none of NORM, MI, STTC,"),
    ],
)
def test_bad_cells_of_ptbxl_are_refused(few_signals, table, row, column, value, sentence) -> None:
    if table == "scp_statements.csv":
        text = (few_signals / table).read_text()
        (few_signals / table).write_text(text.replace(",STTC,STTC,", ",ST,STTC,", 1))
    else:
        edit(few_signals / table, row, column, value)
    refused(source(source="ptbxl", path=str(few_signals)), sentence)


@pytest.mark.parametrize("table", ["ptbxl_database.csv", "scp_statements.csv"])
def test_absent_tables_of_ptbxl_are_refused(few_signals, table) -> None:
    (few_signals / table).unlink()
    refused(source(source="ptbxl", path=str(few_signals)), f"the table {few_signals / table} does not exist")
