"""Membership by complementary pairs of fair coins (design §4)."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailrisk.membership import membership, pair_bits

PATIENTS = [f"patient-{number}" for number in range(2000)]


def test_pairs_are_complementary_and_each_has_its_own_coins() -> None:
    member = membership(3, PATIENTS, range(20))
    assert np.array_equal(member[0::2], ~member[1::2])
    assert np.array_equal(member[0::2], pair_bits(3, PATIENTS, 10))
    assert len({row.tobytes() for row in member}) == 20


@given(st.lists(st.integers(0, 1300), min_size=1, max_size=6), st.integers(0, 2**32))
def test_a_bit_depends_on_seed_pair_and_patient_alone(models: list[int], seed: int) -> None:
    some = PATIENTS[5:9]
    alone = [membership(seed, [patient], [model])[0, 0] for model in models for patient in some]
    assert np.array_equal(membership(seed, some, models).ravel(), alone)


def test_coins_are_fair_and_independent() -> None:
    bits = pair_bits(1, PATIENTS, 600).astype(float)
    # 1.2 million fair coins: the mean within 5 standard errors, and no pair of columns or rows correlated.
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    for table in (bits[:, :300], bits[:100].T):
        correlation = np.corrcoef(table.T)[np.triu_indices(table.shape[1], 1)]
        assert abs(correlation.std() - 1 / np.sqrt(len(table))) < 0.01
        assert np.abs(correlation).max() < 7 / np.sqrt(len(table))
    assert not np.array_equal(pair_bits(1, PATIENTS, 2), pair_bits(2, PATIENTS, 2))


def test_half_sizes_vary_as_coins_do() -> None:
    sizes = pair_bits(5, PATIENTS, 500).sum(axis=1)
    assert abs(sizes.std() / np.sqrt(len(PATIENTS) / 4) - 1) < 0.15
