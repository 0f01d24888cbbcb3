"""Seeds of everything random about a target model."""

import hashlib
from typing import Literal

Purpose = Literal["init", "order"]


def seed_of(seed: int, model: int, purpose: Purpose) -> int:
    """63-bit seed from (study seed, model number, purpose) alone: no model depends on which others are trained."""
    digest = hashlib.blake2b(f"tailrisk {purpose}\0{seed}\0{model}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
