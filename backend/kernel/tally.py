"""Compares two large multisets that arrive in different orders, in constant memory, and says where they differ.

What is summed are hashes behind a secret drawn anew for each comparison: were they known beforehand, a thousand entries
could be forged whose hashes cancel out (generalised birthday; D. Wagner, CRYPTO 2002). The hash is Python's own,
which is quick and made for secrets: SipHash (J.-P. Aumasson and D. J. Bernstein, INDOCRYPT 2012; PEP 456). That two
different sides leave the same sums has a chance of one in 2^64.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKETS = 4_096
MAX_SUSPECT_BUCKETS = 128
SECRET_BYTES = 16


class Tally:
    """Adds hashes per bucket; equal multisets on both sides leave every bucket at zero."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._sums = [0] * BUCKETS

    def add(self, entry: bytes, times: int = 1) -> None:
        """Count the entry ``times`` times: positive on one side, negative on the other."""
        self.add_all((entry,), times)

    def add_all(self, entries: Iterable[bytes], times: int = 1) -> None:
        """Count each of the entries, many at once."""
        secret, sums = self._secret, self._sums
        for entry in entries:
            hashed = hash(secret + entry)
            sums[hashed % BUCKETS] += hashed * times

    def suspects(self) -> Suspects | None:
        """What takes the same entries in a second pass and names the odd ones; None where the sides are equal."""
        unequal = [bucket for bucket, total in enumerate(self._sums) if total]
        # Each holds a difference at least: together more than anybody reads, and bounded.
        return Suspects(self._secret, frozenset(unequal[:MAX_SUSPECT_BUCKETS])) if unequal else None


class Suspects:
    """Second pass over the same entries: which of those in unequal buckets stand on one side only."""

    def __init__(self, secret: bytes, buckets: frozenset[int]) -> None:
        self._secret = secret
        self._buckets = buckets
        self._counts: Counter[bytes] = Counter()

    def add(self, entry: bytes, times: int = 1) -> None:
        """Count the entry where its bucket differs."""
        if hash(self._secret + entry) % BUCKETS in self._buckets:
            self._counts[entry] += times

    def add_all(self, entries: Iterable[bytes], times: int = 1) -> None:
        """Count each of the entries where its bucket differs."""
        for entry in entries:
            self.add(entry, times)

    def differences(self) -> list[tuple[bytes, int]]:
        """Entries with unequal counts, and by how much the positive side leads."""
        return sorted((entry, count) for entry, count in self._counts.items() if count)
