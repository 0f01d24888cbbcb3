"""Which patient is in which target model: complementary pairs by independent fair coins (design §4)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BITS = 512  # of one blake2b digest


def pair_bits(seed: int, patients: Sequence[str], n_pairs: int) -> NDArray[np.bool_]:
    """Fair bits [n_pairs, n_patients]: True puts the patient IN model 2k, False IN model 2k + 1.

    Bit k depends on (seed, k, patient id) alone, so that more pairs or more patients leave all others untouched.
    """
    blocks = -(-n_pairs // _BITS)
    digests = b"".join(
        hashlib.blake2b(f"tailrisk membership\0{seed}\0{block}\0{patient}".encode()).digest()
        for patient in patients
        for block in range(blocks)
    )
    packed = np.frombuffer(digests, dtype=np.uint8).reshape(len(patients), blocks * _BITS // 8)
    return np.unpackbits(packed, axis=1, count=n_pairs).astype(bool).T


def membership(seed: int, patients: Sequence[str], models: Sequence[int]) -> NDArray[np.bool_]:
    """Membership [len(models), n_patients] of the given target models: True where the patient is IN."""
    numbers = np.asarray(models, dtype=np.int64)
    if numbers.size == 0:
        return np.zeros((0, len(patients)), dtype=bool)
    bits = pair_bits(seed, patients, int(numbers.max()) // 2 + 1)
    return bits[numbers // 2] ^ (numbers % 2 == 1)[:, None]
