"""Confidences under IN and OUT models, in blocks of whole patients."""

import designed_scores
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_scores import in_and_out, table

from tailrisk.audit.pairs import blocks
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


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.integers(1, 20), st.integers(0, 2**32))
def test_blocks_without_pairs_hold_equal_numbers_of_models(sizes, size, seed):
    rng = np.random.default_rng(seed)
    confidences, member, patient = designed_scores.table("independent", 6, sizes, rng)
    shuffle = rng.permutation(patient.size)
    confidences, member, patient = confidences[:, shuffle], member[:, shuffle], patient[shuffle]
    seen, patients, counts = [], [], []
    for block in blocks(confidences, member, patient, size, paired=False):
        for i, column in enumerate(block.columns):
            np.testing.assert_array_equal(block.x[:, i], confidences[member[:, column], column])
            np.testing.assert_array_equal(block.y[:, i], confidences[~member[:, column], column])
        np.testing.assert_array_equal(patient[block.columns], np.repeat(block.patient, block.sizes))
        np.testing.assert_array_equal(block.starts, np.cumsum(block.sizes) - block.sizes)
        assert block.columns.size <= size or block.patient.size == 1
        seen.extend(block.columns)
        patients.extend(block.patient)
        counts.append(len(block.x))
    assert sorted(seen) == list(range(patient.size))
    assert sorted(patients) == list(range(len(sizes)))
    assert counts == sorted(counts)


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_confidence_that_is_not_finite_is_located(value):
    def change(confidences, _):
        confidences[5, 3] = value

    with pytest.raises(UserError, match="target model 5 for record number 3"):
        list(blocks(*corrupted(change)))
