"""A user's own signals: PTB-XL as if it were someone's own, arrays, written WFDB records, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb
from end_to_end import end_to_end
from real_sources import refused, source

from tailrisk.datasets.contract import Files, open_prepared
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.own_signals import needs
from tailrisk.datasets.prepare import prepare, read
from tailrisk.errors import UserError
from tailrisk.tables import read_json

OPTIONS = {"source": "signals", "patient": "pid", "file": "file", "label": "sick", "leads": ["I", "II"], "samples": 100}


def dat(folder: Path, name: str) -> np.ndarray:
    """A signal of PTB-XL [12, 1000] in millivolts from its file of 16-bit numbers."""
    return (np.fromfile(folder / f"{name}.dat", "<i2").reshape(-1, 12).T / 1000).astype(np.float32)


@pytest.fixture
def borrowed(ptbxl_folder, tmp_path) -> Path:
    """The first 200 rows of PTB-XL as a manifest."""
    pd.read_csv(ptbxl_folder / "ptbxl_database.csv", dtype=str).head(200).to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def of_ptbxl(table: Path, **options):
    """Sex from three leads in an order of one's own, of which one is spelt in the old way."""
    chosen = {"source": "signals", "path": str(table), "patient": "patient_id", "record": "ecg_id"}
    chosen |= {"file": "filename_lr", "label": "sex", "groups": ["site", "extra_beats"]}
    return source(**chosen | {"leads": ["V2", "aVR", "I"], "samples": 1000, "rate": 100} | options)


def test_wfdb_records_end_to_end(borrowed, ptbxl_folder, tmp_path) -> None:
    run = end_to_end(of_ptbxl(borrowed, folder=str(ptbxl_folder)), tmp_path)
    table = pd.read_csv(borrowed, dtype=str)
    assert (run.card["n_records"], run.card["n_patients"]) == (200, table["patient_id"].nunique())
    assert run.card["classes"] == table["sex"].value_counts().to_dict()
    assert run.card["feature_names"] == ["V2", "aVR", "I"]
    assert run.records["patient"][0] == "15709"
    assert run.groups["extra_beats"].notna().sum() == table["extra_beats"].notna().sum() > 0
    assert run.groups["site"].dropna().astype(str).tolist() == [
        text[:-2] for text in table["site"].dropna()
    ]  # 0, not 0.0
    for row in range(0, 200, 20):
        signal = dat(ptbxl_folder, f"records100/00000/{row + 1:05d}_lr")
        assert np.array_equal(run.prepared.inputs[row], signal[[7, 3, 0]])


def test_arrays_are_the_same_signals(borrowed, ptbxl_folder, tmp_path) -> None:
    """The records as .npy arrays give the same dataset to the bit, decoded by threads or in processes."""
    for name in pd.read_csv(borrowed)["filename_lr"]:
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, dat(ptbxl_folder, name)[[7, 3, 0]])
    prepare("x", of_ptbxl(borrowed, suffix=".npy"), tmp_path / "arrays", 2)
    prepare("x", of_ptbxl(borrowed, folder=str(ptbxl_folder)), tmp_path / "records", 2)
    for name in ("inputs.npy", "labels.npy", "records.parquet"):
        assert (tmp_path / "arrays" / name).read_bytes() == (tmp_path / "records" / name).read_bytes()


def steps(row: int) -> np.ndarray:
    """A signal [3, 100] of its own for each row, in steps of 1/200 mV."""
    return np.random.default_rng(row).integers(-400, 400, (3, 100))


def millivolts(row: int) -> np.ndarray:
    return (steps(row) / 200).astype(np.float32)


def record(folder: Path, name: str, signal: np.ndarray, gain="200/mV", names=("I", "II", "V1"), fs=50) -> None:
    """Write a WFDB record of steps [leads, samples] in format 16 as header(5) of the WFDB library describes it.

    `gain` is one for all leads or a list.
    """
    signal = np.asarray(signal, dtype="<i2")
    signal.T.tofile(folder / f"{name}.dat")
    gains = [gain] * len(signal) if isinstance(gain, str) else gain
    lines = [f"{name} {len(signal)} {fs} {signal.shape[1]}"]
    for lead, text, values in zip(names, gains, signal, strict=True):
        lines.append(f"{name}.dat 16 {text} 16 0 {values[0]} {int(values.astype(int).sum()) % 65536} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join([*lines, "# Größe unbekannt"]) + "\n", encoding="utf-8")


@pytest.fixture
def study(tmp_path) -> Path:
    """manifest.csv of 90 records of 60 patients; `file` is given with .hea, with .dat, and without a suffix."""
    rows = []
    for row in range(90):
        record(tmp_path, f"r{row:02d}", steps(row))
        rows.append((row % 60, f"r{row:02d}{['', '.hea', '.dat'][row % 3]}", row % 2))
    pd.DataFrame(rows, columns=["pid", "file", "sick"]).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def spec(place: Path, **options):
    return source(**OPTIONS | {"path": str(place / "manifest.csv")} | options)


def decoded(place: Path, row: int, **options) -> np.ndarray:
    files = read(spec(place, **options)).inputs
    assert isinstance(files, Files)
    return files.decode(files.paths[row])


def fault(place: Path, row: int, **options) -> str:
    with pytest.raises(UserError) as caught:
        decoded(place, row, **options)
    return str(caught.value)


def test_leads_are_found_by_name(study) -> None:
    for row in range(3):
        assert np.array_equal(decoded(study, row), millivolts(row)[:2])
        assert np.array_equal(decoded(study, row, leads=["v1", "I"]), millivolts(row)[[2, 0]])
    assert fault(study, 0, leads=["I", "V2"]) == "none of its leads is called V2: it has I, II, V1"
    record(study, "r04", steps(4)[[1, 0, 2]], names=["II", "I", "V1"])  # in another order
    assert np.array_equal(decoded(study, 4), millivolts(4)[:2])
    record(study, "r04", steps(4), names=["I", "I", "V1"])
    assert fault(study, 4) == "2 of its leads are called I: it has I, I, V1"
    header = study / "r05.hea"
    lines = header.read_text().splitlines()
    header.write_text("\n".join([lines[0], *(" ".join(line.split()[:3]) for line in lines[1:4])]) + "\n")
    assert fault(study, 5) == "none of its leads is called I: it has None, None, None"


def test_units_are_converted_or_must_agree(study) -> None:
    expected = millivolts(0)[:2]
    record(study, "r00", steps(0), gain="200000/V")
    assert np.allclose(decoded(study, 0), expected, rtol=1e-6)
    assert np.allclose(decoded(study, 0, units="uV"), expected * 1000, rtol=1e-6)
    assert np.allclose(decoded(study, 0, units=None), expected / 1000, rtol=1e-6)
    record(study, "r00", steps(0), gain=["0.2/uV", "200/mV", "200/mV"])
    assert np.allclose(decoded(study, 0), expected, rtol=1e-6)
    # wfdb reads the header as ASCII, in which the micro sign is nothing, and a microvolt a volt.
    record(study, "r00", steps(0), gain="0.2/µV")
    assert np.allclose(wfdb.rdrecord(str(study / "r00")).p_signal.T[:2], expected * 1000)
    assert set(wfdb.rdrecord(str(study / "r00")).units) == {"V"}
    assert fault(study, 0) == "its header has letters beyond ASCII: write uV for microvolts"
    record(study, "r00", steps(0), gain=["200/mV", "200/mmHg", "200/mV"])
    assert fault(study, 0) == "lead II is in mmHg, not in mV"
    assert np.array_equal(decoded(study, 0, units=["mV", "mmHg"]), expected)
    assert np.array_equal(decoded(study, 0, units=None), expected)


def test_lengths_rates_and_values_are_checked(study) -> None:
    assert fault(study, 0, samples=99) == "100 samples a lead, not 99"
    assert fault(study, 0, rate=100) == "50 samples per second, not 100"
    assert decoded(study, 0, rate=50).shape == (2, 100)
    lost = steps(0)
    lost[1, 7] = -32768  # the value of format 16 that stands for no value
    record(study, "r00", lost)
    assert fault(study, 0) == "lead II has samples without a value"
    assert decoded(study, 0, leads=["V1"]).shape == (1, 100)  # what is not asked for may be anything
    damaged = bytearray((study / "r01.dat").read_bytes())
    damaged[10] ^= 4
    (study / "r01.dat").write_bytes(damaged)
    assert fault(study, 1) == "its samples do not agree with the checksum in its header"
    (study / "r02.dat").write_bytes(damaged[:-30])
    assert "not a readable WFDB record" in fault(study, 2)
    (study / "r03.dat").unlink()
    with pytest.raises(FileNotFoundError):
        decoded(study, 3)


def test_several_samples_a_frame_are_averaged(study) -> None:
    """A lead of twice the rate, as wfdb itself writes it, is brought to that of its record."""
    slow, fast = millivolts(1)[0].astype(float), np.repeat(millivolts(2)[1].astype(float), 2)
    both = {
        "units": ["mV"] * 2,
        "sig_name": ["I", "II"],
        "fmt": ["16"] * 2,
        "adc_gain": [200.0] * 2,
        "baseline": [0] * 2,
    }
    wfdb.wrsamp("r01", e_p_signal=[slow, fast], samps_per_frame=[1, 2], fs=50, write_dir=str(study), **both)
    assert np.allclose(decoded(study, 1), np.stack([slow, fast[::2]]), atol=1e-6)


def test_faults_of_arrays(study) -> None:
    good = np.ascontiguousarray(millivolts(0)[:2])
    table = pd.read_csv(study / "manifest.csv", dtype=str)
    table.loc[0, "file"] = "a.npy"
    table.to_csv(study / "manifest.csv", index=False)
    for array, sentence in (
        (good.T, "an array of 100 × 2, not of 2 leads × 100 samples"),
        (good[0], "an array of 100, not of 2 leads × 100 samples"),
        (good[:, :99], "99 samples a lead, not 100"),
        (np.where(good == good[1, 3], np.inf, good), "lead II has samples without a value"),
        (good.astype(str), "values of the type <U"),
        (good.astype(object), "not a readable array"),
    ):
        np.save(study / "a.npy", array)
        assert sentence in fault(study, 0)
    (study / "a.npy").write_bytes(b"\x93NUMPY")
    assert "not a readable array" in fault(study, 0)
    np.save(study / "a.npy", steps(0)[:2].astype(np.int16))
    assert np.array_equal(decoded(study, 0), steps(0)[:2].astype(np.float32))


def test_unfit_signals_are_left_out(study, tmp_path) -> None:
    """A flat one, one that is not there, one that is too short, and one without a class."""
    record(study, "r10", np.full((3, 100), 100))
    (study / "r11.hea").unlink()
    record(study, "r12", steps(12)[:, :90])
    table = pd.read_csv(study / "manifest.csv", dtype=str).assign(ill=lambda f: f["sick"], old=lambda f: f["sick"])
    table.loc[13, ["ill", "old"]] = ""
    table.to_csv(study / "manifest.csv", index=False)
    prepare("x", spec(study, label=["ill", "old"], max_quarantined=0.04), tmp_path / "out")
    card = read_json(tmp_path / "out/card.json")
    assert card["quarantined"] == {"constant": 1, "missing": 1, "unreadable": 1}
    assert card["excluded"] == {"no label is observed": 1}
    assert (card["rows"], card["n_records"]) == (90, 86)
    excluded = pd.read_parquet(tmp_path / "out/excluded.parquet").set_index("record")
    assert excluded["reason"].astype(str).to_dict() == {
        "row-10": "constant",
        "row-11": "missing",
        "row-12": "unreadable",
        "row-13": "no label is observed",
    }
    assert excluded.loc["row-12", "detail"] == f"{study / 'r12.hea'}: 90 samples a lead, not 100"
    found = open_prepared(tmp_path / "out")
    assert found.record[10] == "row-14"
    assert np.array_equal(found.inputs[10], millivolts(14)[:2])


def test_one_record_by_two_names_is_refused(study) -> None:
    whole = pd.read_csv(study / "manifest.csv", dtype=str)
    for row, name in ((3, "r00.hea"), (4, "./r00.dat"), (5, f"{study}/r00")):
        table = whole.copy()
        table.loc[row, "file"] = name
        table.to_csv(study / "manifest.csv", index=False)
        refused(spec(study), f"column 'file' names a file a second time in row {row + 1}")


def test_faults_of_signals_and_their_options(study) -> None:
    refused(
        spec(study, folder=str(study / "elsewhere")),
        f"none of the 90 signals in {study / 'manifest.csv'} is there, such as {study / 'elsewhere/r00.hea'}",
    )
    assert list(unmet(needs(spec(study)))) == []
    assert list(unmet(needs(spec(study, folder=str(study / "elsewhere"))))) == [f"{study / 'elsewhere'} does not exist"]
    for options, sentence in (
        ({"leads": ["I", "i"]}, "the lead 'I' is listed twice"),
        ({"units": ["mV"]}, "1 are listed for 2 leads"),
        ({"leads": []}, "leads"),
        ({"samples": 4}, "samples"),
    ):
        with pytest.raises(UserError, match=sentence):
            spec(study, **options)
