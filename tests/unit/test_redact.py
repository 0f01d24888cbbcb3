"""Redaction: every fill against brute force, what names and regions mean, and what is refused in which words."""

from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import torch
from scipy import stats

from tailrisk.config.load import parse
from tailrisk.config.queries import Redacted
from tailrisk.datasets.contract import Prepared
from tailrisk.errors import UserError
from tailrisk.training import redact as module
from tailrisk.training.redact import Redaction, plan_redaction, redact

FEATURES = ["age", "lactate", "lactate = missing", "race = a", "race = b", "racer", "sex = f"]
LEADS = ["I", "II", "III", "aVR", "V1"]
WHERE = "queries.part"


def prepared(inputs: np.ndarray, features: list[str], n_patients: int = 12) -> Prepared:
    """A prepared dataset of these inputs; a third of the records belong to the first patient."""
    n = len(inputs)
    patient = np.random.default_rng(1).integers(0, n_patients, n)
    patient[: n // 3] = 0
    return Prepared(
        inputs=inputs,
        labels=np.zeros(n, dtype=np.int64),
        record=np.array([f"r{i}" for i in range(n)], dtype=object),
        patient=np.array([f"p{i}" for i in patient], dtype=object),
        split=np.full(n, "audit", dtype=object),
        control=np.zeros(n, dtype=bool),
        task="binary",
        classes=["no", "yes"],
        n_outputs=1,
        data_hash="",
        features=features,
    )


def table(n: int = 61) -> Prepared:
    return prepared(np.random.default_rng(2).normal(size=(n, len(FEATURES))).astype(np.float32), FEATURES)


def signals(n: int = 30) -> Prepared:
    return prepared(np.random.default_rng(3).normal(size=(n, len(LEADS), 50)).astype(np.float32), LEADS)


def images(n: int = 40) -> Prepared:
    return prepared(np.random.default_rng(4).integers(0, 256, (n, 3, 10, 7), dtype=np.uint8), [])


def some(data: Prepared) -> np.ndarray:
    """The audited rows: an even number of them, with gaps and not from the first on."""
    rows = np.arange(1, len(data.inputs), 3)
    return rows[: len(rows) // 2 * 2]


def planned(data: Prepared, seed: int = 0, **options) -> Redaction:
    query = parse(Redacted, {"kind": "redacted"} | options, WHERE)
    return plan_redaction(query, data, some(data), seed, WHERE)


def redacted(data: Prepared, plan: Redaction) -> np.ndarray:
    """The audited records as the attacker has them."""
    fill = plan.fill if plan.donors is None else data.inputs[plan.donors]
    x = torch.from_numpy(data.inputs[some(data)])
    result = redact(x, torch.from_numpy(plan.hidden), torch.from_numpy(fill))
    assert result.dtype == x.dtype
    return result.numpy()


@pytest.mark.parametrize(
    ("options", "hidden"),
    [
        ({"hidden": ["age"]}, {"age"}),
        ({"hidden": ["race"]}, {"race = a", "race = b"}),
        ({"hidden": ["race = b", "racer"]}, {"race = b", "racer"}),
        ({"known": ["lactate", "sex"]}, {"age", "race = a", "race = b", "racer"}),
        ({"known": ["lactate = missing"]}, set(FEATURES) - {"lactate = missing"}),
    ],
)
def test_a_column_means_all_features_encoded_from_it(options, hidden) -> None:
    assert {FEATURES[i] for i in np.flatnonzero(planned(table(), **options).hidden)} == hidden


def test_leads_are_named_in_any_case() -> None:
    hidden = planned(signals(), known=["i", "AVR", "V1"]).hidden
    assert [lead for lead, samples in zip(LEADS, hidden, strict=True) if samples.all()] == ["II", "III"]
    assert hidden.sum() == 2 * 50


@pytest.mark.parametrize(
    ("region", "rows", "columns"),
    [
        ((0, 0, 0.5, 1), range(5), range(7)),
        ((0.5, 0, 1, 1), range(5, 10), range(7)),
        ((0.25, 0.5, 0.44, 1), range(3, 4), range(4, 7)),
        ((0.24, 0, 0.46, 0.49), range(2, 5), range(3)),
    ],
)
def test_edges_of_regions_lie_between_pixels(region, rows, columns) -> None:
    expected = np.zeros((3, 10, 7), dtype=bool)
    for row in rows:
        for column in columns:
            expected[:, row, column] = True
    np.testing.assert_array_equal(planned(images(), hidden_region=region).hidden, expected)
    np.testing.assert_array_equal(planned(images(), known_region=region).hidden, ~expected)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (table(), {"known": ["age", "race"]}),
        (signals(), {"known": ["I"]}),
        (images(), {"known_region": [0.2, 0.1, 0.7, 0.8]}),
    ],
)
@pytest.mark.parametrize("fill", ["median", "zero", "donor"])
@pytest.mark.parametrize("block", [1, 700, 2**27])
def test_every_fill_value_by_value(data, options, fill, block, monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block)
    plan = planned(data, fill=fill, **options)
    result, rows = redacted(data, plan), some(data)
    for place in np.ndindex(*data.inputs.shape[1:]):
        values = [data.inputs[(row, *place)].item() for row in rows]
        if plan.hidden[place] and fill == "median":
            middle = median(values)
            values = [round(middle) if data.inputs.dtype == np.uint8 else np.float32(middle)] * len(rows)
        elif plan.hidden[place] and fill == "zero":
            values = [0] * len(rows)
        elif plan.hidden[place]:
            values = [data.inputs[(donor, *place)].item() for donor in plan.donors]
        np.testing.assert_allclose(result[(slice(None), *place)], values, rtol=1e-6, atol=1e-7)


def test_medians_are_those_of_a_file_on_disk(tmp_path) -> None:
    data = images()
    np.save(tmp_path / "inputs.npy", data.inputs)
    stored = prepared(np.load(tmp_path / "inputs.npy", mmap_mode="r"), [])
    region = [0, 0, 0.5, 0.5]
    np.testing.assert_array_equal(planned(stored, hidden_region=region).fill, planned(data, hidden_region=region).fill)


def test_donors_are_other_patients_and_equally_likely() -> None:
    data, n_seeds = table(), 1500
    rows = some(data)
    donors = np.array([planned(data, seed=seed, hidden=["age"], fill="donor").donors for seed in range(n_seeds)])
    assert (data.patient[donors] != data.patient[rows]).all()
    p_values = []
    for column, row in enumerate(rows):
        others = rows[data.patient[rows] != data.patient[row]]
        counts = [np.count_nonzero(donors[:, column] == other) for other in others]
        assert sum(counts) == n_seeds
        p_values.append(stats.chisquare(counts).pvalue)
    assert min(p_values) > 1e-3 / len(rows)
    # Donors of different records are drawn independently of each other.
    table_of_two = np.zeros((len(data.inputs), len(data.inputs)))
    np.add.at(table_of_two, (donors[:, 0] // 10, donors[:, -1] // 10), 1)
    used = table_of_two[table_of_two.sum(1) > 0][:, table_of_two.sum(0) > 0]
    assert stats.chi2_contingency(used).pvalue > 1e-3


def test_seed_and_record_id_decide_on_the_donor() -> None:
    data = table()
    renamed = replace(data, record=np.array([f"s{i}" for i in range(len(data.record))], dtype=object))
    first, again, other, of_renamed = (
        planned(dataset, seed=seed, hidden=["age"], fill="donor").donors
        for dataset, seed in ((data, 5), (data, 5), (data, 6), (renamed, 5))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != of_renamed).any()


def refusal(data: Prepared, **options) -> str:
    with pytest.raises(UserError) as caught:
        planned(data, **options)
    return str(caught.value)


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    assert refusal(table(), known=["age", "lactat"]) == (
        "queries.part.known: the records have no feature 'lactat'; did you mean 'lactate'?"
    )
    assert refusal(table(), hidden=["race = c"]).endswith("did you mean 'race = b'?")
    assert refusal(table(), hidden=["Age"]).startswith("queries.part.hidden: the records have no feature 'Age'")
    assert refusal(table(), hidden=["weight"]).endswith("; known: age, lactate, race, racer, sex")
    assert refusal(signals(), known=["V9x"]).startswith("queries.part.known: the records have no lead 'V9x'; ")


def test_names_are_for_tables_and_signals_and_regions_for_images() -> None:
    assert refusal(images(), known=["I"]) == (
        "queries.part.known: images have no features to name: state known_region or hidden_region"
    )
    for data in (table(), signals()):
        assert refusal(data, hidden_region=[0, 0, 1, 0.5]) == (
            "queries.part.hidden_region: only images have regions: name features or leads with known or hidden"
        )


def test_an_attacker_has_something_and_lacks_something() -> None:
    nothing = "the attacker would have nothing of a record: hide less of it"
    everything = "the attacker would have all of a record: hide more of it"
    assert refusal(signals(), hidden=LEADS) == f"queries.part.hidden: {nothing}"
    assert refusal(signals(), known=LEADS) == f"queries.part.known: {everything}"
    assert refusal(images(), known_region=[0, 0, 0.04, 1]) == f"queries.part.known_region: {nothing}"
    assert refusal(images(), hidden_region=[0, 0, 0.04, 1]) == f"queries.part.hidden_region: {everything}"
    assert refusal(images(), hidden_region=[0, 0, 1, 1]) == f"queries.part.hidden_region: {nothing}"


def test_a_single_patient_has_no_donor() -> None:
    data = prepared(np.zeros((9, 3), dtype=np.float32), ["x", "y", "z"], n_patients=1)
    assert refusal(data, hidden=["x"], fill="donor").startswith("queries.part.fill: all records are of one patient")
