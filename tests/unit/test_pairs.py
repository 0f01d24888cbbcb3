"""Pairing, blocks of whole patients, and the checks of a confidence table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_scores import in_and_out, table

from tailrisk.audit.pairs import blocks, check_pairs
from tailrisk.errors import UserError


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 20), st.integers(0, 2**32))
def test_blocks_hold_whole_patients_once_and_the_right_values(sizes, size, seed):
    rng = np.random.default_rng(seed)
    confidences, member, patient = table(3, sizes, rng)
    shuffle = rng.permutation(patient.size)
    confidences, member, patient = confidences[:, shuffle], member[:, shuffle], patient[shuffle]
    x, y = in_and_out(confidences, member)
    seen, patients = [], []
    for block in blocks(confidences, member, patient, size):
        np.testing.assert_array_equal(block.x, x[:, block.columns])
        np.testing.assert_array_equal(block.y, y[:, block.columns])
        np.testing.assert_array_equal(patient[block.columns], np.repeat(block.patient, block.sizes))
        np.testing.assert_array_equal(block.starts, np.cumsum(block.sizes) - block.sizes)
        assert block.columns.size <= size or block.patient.size == 1
        seen.extend(block.columns)
        patients.extend(block.patient)
    assert sorted(seen) == list(range(patient.size))
    assert patients == list(range(len(sizes)))


def test_a_memory_map_is_read_as_the_array_is(tmp_path):
    rng = np.random.default_rng(0)
    confidences, member, patient = table(4, [3] * 50, rng)
    path = tmp_path / "confidences.npy"
    np.save(path, confidences)
    mapped = np.load(path, mmap_mode="r")
    for one, other in zip(blocks(mapped, member, patient, 20), blocks(confidences, member, patient, 20), strict=True):
        np.testing.assert_array_equal(one.x, other.x)


def corrupted(change):
    confidences, member, patient = table(3, [2, 1, 2], np.random.default_rng(1))
    change(confidences, member)
    return confidences, member, patient


def test_a_pair_that_is_not_complementary_is_named():
    def change(_, member):
        member[3, 4] = member[2, 4]

    with pytest.raises(UserError, match=r"pair 1 \(target models 2 and 3\).* 1 of 5"):
        check_pairs(*corrupted(change))


def test_membership_that_differs_within_a_patient_is_named():
    def change(_, member):
        member[4:6, 1] = ~member[4:6, 1]

    with pytest.raises(UserError, match="pair 2 differs between records of one patient"):
        list(blocks(*corrupted(change)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_confidence_that_is_not_finite_is_located(value):
    def change(confidences, _):
        confidences[5, 3] = value

    with pytest.raises(UserError, match="target model 5 for record number 3"):
        list(blocks(*corrupted(change)))


@pytest.mark.parametrize(
    ("models", "records", "message"), [(5, 3, "cannot form pairs"), (2, 3, "at least 2 pairs"), (4, 0, "no records")]
)
def test_tables_too_small_or_odd_are_refused(models, records, message):
    shape = (models, records)
    with pytest.raises(UserError, match=message):
        check_pairs(np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(records, int))


def test_shapes_that_disagree_are_refused():
    with pytest.raises(UserError, match="one membership per confidence"):
        check_pairs(np.zeros((4, 3), np.float32), np.zeros((4, 2), bool), np.zeros(3, int))
