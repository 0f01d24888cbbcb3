"""Prepared datasets: the sources, the split, and what is refused in which words."""

import json
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from own_tables import OWN, own_table

from tailrisk.config.load import parse
from tailrisk.config.sources import AnySource
from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.download import download
from tailrisk.datasets.draws import unit_hash
from tailrisk.datasets.groups import groups
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import draw_split, prepare
from tailrisk.datasets.table import needs
from tailrisk.errors import UserError
from tailrisk.tables import read_table


def source(**options):
    return parse(AnySource, options, "datasets.x")


def prepared(tmp_path, frame: pd.DataFrame, **options):
    path = tmp_path / "own.csv"
    frame.to_csv(path, index=False)
    spec = source(**OWN | {"path": str(path)} | options)
    prepare("own", spec, tmp_path / "own")
    groups(spec, tmp_path / "own")
    return open_prepared(tmp_path / "own")


@pytest.mark.parametrize("options", [{"source": "breast_cancer"}, {"source": "simulated"}])
def test_embedded_sources_keep_the_contract(tmp_path, options) -> None:
    spec = source(**options)
    prepare("x", spec, tmp_path)
    groups(spec, tmp_path)
    data = open_prepared(tmp_path)
    assert data.inputs.dtype == np.float32
    assert set(data.labels) == {0, 1}
    assert len(data.inputs) == len(data.labels) == len(data.record) == len(set(data.record))
    assert pd.DataFrame({"p": data.patient, "s": data.split}).groupby("p")["s"].nunique().max() == 1
    assert set(data.split) == {"audit", "validation", "test"}
    assert not data.control[data.split != "audit"].any()
    assert list(read_table(tmp_path / "groups.parquet", "groups")["record"]) == list(data.record)


def test_every_dataset_has_its_label_as_a_group_once(tmp_path) -> None:
    for options, expected in (
        ({"source": "breast_cancer"}, ["diagnosis"]),  # which is the label
        ({"source": "simulated"}, ["kind", "sex", "label"]),
    ):
        spec = source(**options)
        prepare("x", spec, tmp_path / options["source"])
        groups(spec, tmp_path / options["source"])
        found = read_table(tmp_path / options["source"] / "groups.parquet", "groups")
        assert list(found) == ["record", *expected]
    labels = open_prepared(tmp_path / "simulated").labels
    assert found["label"].tolist() == np.array(["negative", "positive"])[labels].tolist()


def test_columns_of_several_labels_are_told_apart(tmp_path) -> None:
    frame = own_table().assign(finding="MI | CD")
    frame.loc[:2, "finding"] = [None, "MI", "|"]
    prepared(tmp_path, frame, groups=["ethnicity", "finding"], separators={"finding": "|"})
    found = read_table(tmp_path / "own" / "groups.parquet", "groups")
    assert found["finding"].tolist()[:4] == [None, ["MI"], [], ["MI", "CD"]]
    assert found["label"].tolist() == frame["outcome"].tolist()


def test_same_source_gives_the_same_bytes(tmp_path) -> None:
    for name in ("a", "b"):
        prepare("x", source(source="simulated", patients=100), tmp_path / name)
    for file in ("inputs.npy", "labels.npy", "records.parquet", "card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_simulated_cohort_is_what_it_says(tmp_path) -> None:
    spec = source(source="simulated", patients=400)
    prepare("x", spec, tmp_path)
    groups(spec, tmp_path)
    data, kinds = open_prepared(tmp_path), read_table(tmp_path / "groups.parquet", "groups")
    records = pd.Series(data.patient).value_counts()
    assert records.max() == 20
    assert records.min() == 1
    patients = pd.DataFrame({"patient": data.patient, "kind": kinds["kind"].astype(str)}).drop_duplicates()
    assert len(patients) == 400
    assert patients["kind"].value_counts().to_dict() == {"typical": 364, "rare": 20, "atypical": 16}
    # Records of a patient resemble each other far more than those of two patients.
    centred = pd.DataFrame(data.inputs).groupby(data.patient).transform("mean").to_numpy()
    assert (data.inputs - centred).std() < 0.2 * data.inputs.std()


def test_split_depends_on_the_patient_alone() -> None:
    spec = source(source="breast_cancer")
    patients = np.array([f"p{number}" for number in range(20000)], dtype=object)
    split = draw_split(patients, spec)
    assert np.array_equal(draw_split(patients[500:700], spec), split[500:700])
    shares = pd.Series(split).value_counts(normalize=True)
    assert abs(shares["test"] - 0.15) < 0.01
    assert abs(shares["validation"] - 0.10) < 0.01
    assert not np.array_equal(unit_hash("control", 0, patients), unit_hash("split", 0, patients))


def test_own_table(tmp_path) -> None:
    frame = own_table()
    data = prepared(tmp_path, frame)
    assert data.inputs.shape == (200, 4)
    assert list(data.patient) == list(frame["pid"])  # "0004" is no number
    assert np.array_equal(data.labels, frame["outcome"] == "dead")
    card = json.loads((tmp_path / "own/card.json").read_text())
    assert card["n_patients"] == frame["pid"].nunique()
    assert card["classes"] == frame["outcome"].value_counts().to_dict()
    assert list(card["checksums"]) == ["own.csv"]


def test_own_table_as_parquet_and_multiclass(tmp_path) -> None:
    frame = own_table().assign(outcome=lambda f: f["ethnicity"])
    frame.to_parquet(tmp_path / "own.parquet")
    prepare("own", source(**OWN | {"path": str(tmp_path / "own.parquet")}), tmp_path / "own")
    data = open_prepared(tmp_path / "own")
    assert data.task == "multiclass"
    assert data.n_outputs == 3


def spoil(column: str, row: int, value: object):
    def apply(frame: pd.DataFrame) -> pd.DataFrame:
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return apply


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (spoil("lactate", 7, None), {}, "column 'lactate' is blank in row 8; fill it in, or set `missing: indicator`"),
        (spoil("unit", 3, None), {}, "column 'unit' is blank in row 4"),
        (spoil("age", 2, "old"), {}, "column 'age' is not a finite number in row 3"),
        (spoil("lactate", 0, "inf"), {}, "column 'lactate' is not a finite number in row 1"),
        (spoil("pid", 9, None), {}, "column 'pid' is blank in row 10"),
        (spoil("outcome", 9, None), {}, "column 'outcome' is blank in row 10"),
        (
            spoil("pid", 9, "NULL"),
            {},
            "column 'pid' holds a word for none, such as NA, in place of a patient's id in row 10",
        ),
        (spoil("pid", 9, "1.2E+15"), {}, "column 'pid' has lost digits of ids (store them as text)"),
        (
            lambda f: f.assign(pid=np.where(np.arange(200) == 7, "00" + f["pid"][7], f["pid"])),
            {},
            "column 'pid' writes a number in several ways, such as 7 and 007",
        ),
        (
            lambda f: f.assign(unit=np.where(np.arange(200) < 2, ["1", "01"] * 100, "ward")),
            {},
            "column 'unit' writes one level in several ways, such as 1 and 1.0 or 01 (make them one), in row 1, 2",
        ),
        (
            lambda f: f.assign(unit=["1.0", "1"] + ["2"] * 198),
            {},
            "column 'unit' writes one level in several ways, such as 1 and 1.0 or 01 (make them one), in row 1, 2",
        ),
        (lambda f: f.assign(outcome="dead"), {}, "has a single class ('dead')"),
        (spoil("outcome", 5, "unclear"), {}, "class 'unclear' has"),
        (lambda f: f, {"numeric": ["agee"]}, "has no column 'agee'; did you mean 'age'?"),
        (lambda f: f, {"groups": ["ethnicty"]}, "has no column 'ethnicty'; did you mean 'ethnicity'?"),
        (lambda f: f, {"numeric": ["age", "outcome"]}, "column 'outcome' is an id or the label"),
        (lambda f: f.assign(rid="r1"), {"record": "rid"}, "a record id occurs a second time, in row 2, 3, 4 and 196"),
        (lambda f: f.iloc[:0], {}, "has no rows"),
        (lambda f: f, {"groups": ["pid"]}, "identifies patients or records and cannot be a group"),
        (
            lambda f: f.assign(
                outcome=np.where(np.arange(len(f)) % 3, "1", np.where(np.arange(len(f)) % 2, "0", "1.0"))
            ),
            {},
            "spells one class in several ways (1, 1.0)",
        ),
        (lambda f: f.assign(part="train"), {"split": "part"}, "is not audit, validation or test in row 1, 2, 3"),
        (
            lambda f: f.assign(part=np.where(np.arange(len(f)) % 2, "audit", "test")),
            {"split": "part"},
            "a patient has records in two splits",
        ),
        (lambda f: f.assign(age=1, lactate=2.0, unit="icu"), {}, "every record has the same inputs"),
        (lambda f: f.assign(ethnicity=None), {}, "group column 'ethnicity' is blank in every row"),
    ],
)
def test_faults_of_a_table_are_named(tmp_path, change, options, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, change(own_table()), **options)
    assert sentence in str(caught.value)
    assert "own.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spaces_around_ids_and_labels_do_not_split_patients(tmp_path) -> None:
    frame = own_table()
    spaced = frame.assign(
        pid=frame["pid"] + np.where(np.arange(len(frame)) % 2, " ", ""), outcome=" " + frame["outcome"]
    )
    data = prepared(tmp_path, spaced)
    assert list(data.patient) == list(frame["pid"])
    assert data.classes == ["alive", "dead"]


@pytest.mark.parametrize("name", ["own.csv", "own.parquet"])
def test_numbers_of_patients_are_one_text_however_they_are_stored(tmp_path, name: str) -> None:
    """A tool that has met a blank writes 7 as 7.0: one patient, not two who are split apart."""
    frame = own_table()
    numbers = frame["pid"].astype(int)
    written = [f"{number}.0" if row % 2 else str(number) for row, number in enumerate(numbers)]
    stage = np.where(np.arange(200) % 5, 1.0 + np.arange(200) % 2, np.nan)
    if name == "own.csv":
        frame.assign(pid=written, stage=stage).to_csv(tmp_path / name, index=False)
    else:
        frame.assign(pid=numbers.astype(float), stage=stage).to_parquet(tmp_path / name)
    spec = source(**OWN | {"path": str(tmp_path / name), "groups": ["stage"]})
    prepare("own", spec, tmp_path / "own")
    groups(spec, tmp_path / "own")
    assert open_prepared(tmp_path / "own").patient.tolist() == [str(number) for number in numbers]
    found = read_table(tmp_path / "own/groups.parquet", "groups")["stage"]
    assert found.value_counts().to_dict() == {"1": 80, "2": 80}


def test_ids_with_a_fraction_of_their_own_stay_as_they_are(tmp_path) -> None:
    frame = own_table().assign(pid=lambda f: "1." + f["pid"])
    assert prepared(tmp_path, frame).patient.tolist() == frame["pid"].tolist()


def test_spaces_around_groups_and_splits_do_not_matter(tmp_path) -> None:
    part = np.where(own_table()["pid"].astype(int) % 4 == 0, "test ", " audit")
    frame = own_table().assign(part=np.where(own_table()["pid"].astype(int) % 4 == 1, "validation", part))
    frame["ethnicity"] = np.where(np.arange(200) % 2, " a", "a ")
    frame.loc[3, "ethnicity"] = "  "
    data = prepared(tmp_path, frame, split="part")
    assert data.split.tolist() == [text.strip() for text in frame["part"]]
    found = read_table(tmp_path / "own/groups.parquet", "groups")["ethnicity"]
    assert found.value_counts().to_dict() == {"a": 199}
    assert found.isna().tolist() == [row == 3 for row in range(200)]


def test_what_a_table_needs(tmp_path) -> None:
    path = tmp_path / "own.csv"
    options = OWN | {"path": str(path), "record": "rid", "split": "part"}
    assert list(unmet(needs(source(**options)))) == [f"{path} does not exist"]
    own_table().to_csv(path, index=False)
    assert [sentence.split(";")[0] for sentence in unmet(needs(source(**options)))] == [
        f"{path} has no column 'rid'",
        f"{path} has no column 'part'",
    ]
    assert list(unmet(needs(source(**OWN | {"path": str(path)})))) == []


def test_rows_that_end_in_a_separator_are_not_shifted(tmp_path) -> None:
    frame = own_table()
    path = tmp_path / "trailing.csv"
    lines = frame.to_csv(index=False).splitlines()
    path.write_text("\n".join([lines[0], *(f"{line}," for line in lines[1:])]) + "\n")
    prepare("own", source(**OWN | {"path": str(path)}), tmp_path / "out")
    assert list(open_prepared(tmp_path / "out").patient) == list(frame["pid"])


def test_values_beyond_the_header_are_refused(tmp_path) -> None:
    path = tmp_path / "own.csv"
    lines = own_table().to_csv(index=False).splitlines()
    path.write_text("\n".join([lines[0], *(f"{line},9" for line in lines[1:])]) + "\n")
    with pytest.raises(UserError, match="rows hold more values than the header has columns"):
        prepare("own", source(**OWN | {"path": str(path)}), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"groups": ["auc"]}, "a group column cannot be called 'auc'"),
        ({"groups": ["ethnicity", "ethnicity"]}, "the group column 'ethnicity' is listed twice"),
        ({"numeric": ["age", "age"]}, "the feature column 'age' is listed twice"),
        ({"separators": {"etnicity": "|"}}, "'etnicity' is not one of the group columns; did you mean 'ethnicity'?"),
        ({"separators": {"ethnicity": ""}}, "what stands between the labels of 'ethnicity' cannot be empty"),
    ],
)
def test_faults_of_the_column_lists(options, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        source(**OWN | {"path": "own.csv"} | options)


@pytest.mark.parametrize("name", ["own.csv.gz", "own.csv.zip", "own.csv.xz"])
def test_damaged_archives_are_named(tmp_path, name: str) -> None:
    own_table().to_csv(tmp_path / name, index=False)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is not a readable table"):
        prepare("own", source(**OWN | {"path": str(tmp_path / name)}), tmp_path / "out")


def test_missing_values_become_indicators_where_asked(tmp_path) -> None:
    frame = spoil("unit", 3, None)(spoil("lactate", 7, None)(own_table()))
    data = prepared(tmp_path, frame, missing="indicator")
    assert data.inputs.shape == (200, 6)  # age, lactate and its indicator, three levels of unit
    assert np.flatnonzero(data.inputs[:, 2]).tolist() == [7]


def test_missing_and_unreadable_files(tmp_path) -> None:
    for path, content in (("absent.csv", None), ("bad.parquet", b"no"), ("bad.csv", b"\x00\xff\xfe")):
        if content is not None:
            (tmp_path / path).write_bytes(content)
        with pytest.raises(UserError, match=path):
            prepare("own", source(**OWN | {"path": str(tmp_path / path)}), tmp_path / "out")
    with pytest.raises(UserError, match="does not exist"):
        prepare("d", source(source="diabetes130", path=str(tmp_path / "no")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_download_checks_what_came(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("diabetic_data.csv", "a,b\n1,2\n")
    inner = "5c8ac07c36b6aca28cb3b0a3ec0bf1b2f2e0a8a1d0f8b4f0fe1bb5c0d7a8f8b6"
    handler = type(
        "Quiet",
        (SimpleHTTPRequestHandler,),
        {
            "log_message": lambda *words: None,
            "__init__": lambda self, *args: SimpleHTTPRequestHandler.__init__(self, *args, directory=str(tmp_path)),
        },
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/source.zip"
        import hashlib

        right = hashlib.sha256(b"a,b\n1,2\n").hexdigest()
        download(url, right, tmp_path / "data/source.zip")
        assert (tmp_path / "data/source.zip").read_bytes() == (tmp_path / "source.zip").read_bytes()
        with pytest.raises(UserError, match="does not hold a file with the SHA-256"):
            download(url, inner, tmp_path / "data/other.zip")
        with pytest.raises(UserError, match="cannot download"):
            download(url + "x", right, tmp_path / "data/other.zip")
        server.shutdown()
    assert not (tmp_path / "data/other.zip").exists()
