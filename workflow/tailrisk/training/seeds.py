"""Seeds of everything random about a target model."""

import hashlib
from typing import Literal

Purpose = Literal["init", "order", "augment", "dropout", "view"]


def seed_of(seed: int, number: int, purpose: Purpose, step: int = 0) -> int:
    """63-bit seed from (study seed, model or view number, purpose, step) alone, whatever else is trained or asked."""
    text = f"tailrisk {purpose}\0{seed}\0{number}" + (f"\0{step}" if step else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
