"""Seeds made of what they are for, so that no two draws share one by accident."""

from __future__ import annotations

import hashlib

__all__ = ["seed_of"]


def seed_of(*parts: object) -> int:
    """Return a seed below 2^63 that depends on every part.

    >>> seed_of(0, "judge") == seed_of(0, "judge") != seed_of(1, "judge")
    True
    """
    text = "|".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
