"""Random draws that depend on ids alone: nobody's draw changes when others come or go."""

import hashlib

import numpy as np
from numpy.typing import NDArray


def unit_hash(purpose: str, seed: int, patients: NDArray[np.object_]) -> NDArray[np.float64]:
    """A number in [0, 1) per record that depends on (purpose, seed, patient id) alone."""
    unique, inverse = np.unique(patients.astype(str), return_inverse=True)
    digests = (hashlib.blake2b(f"tailrisk {purpose}\0{seed}\0{p}".encode(), digest_size=8).digest() for p in unique)
    numbers = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.float64) / 2.0**64
    return numbers[inverse]
