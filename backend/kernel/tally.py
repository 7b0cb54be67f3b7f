"""Compares two large multisets that arrive in different orders, in constant memory, and says where they differ."""

from __future__ import annotations

import hashlib
from collections import Counter

BUCKETS = 4_096
_MODULUS = 2**128


class Tally:
    """Adds SHA-256 digests per bucket; equal multisets on both sides leave every bucket at zero."""

    def __init__(self) -> None:
        self._sums: dict[int, int] = {}

    def add(self, entry: str, times: int = 1) -> None:
        """Count the entry ``times`` times: positive on one side, negative on the other."""
        digest = hashlib.sha256(entry.encode()).digest()
        bucket = int.from_bytes(digest[:4], "big") % BUCKETS
        self._sums[bucket] = (self._sums.get(bucket, 0) + times * int.from_bytes(digest[4:20], "big")) % _MODULUS

    def unequal(self) -> frozenset[int]:
        """Buckets in which the two sides differ."""
        return frozenset(bucket for bucket, total in self._sums.items() if total)


class Suspects:
    """Second pass over the same entries: which of those in unequal buckets stand on one side only."""

    def __init__(self, buckets: frozenset[int]) -> None:
        self._buckets = buckets
        self._counts: Counter[str] = Counter()

    def add(self, entry: str, times: int = 1) -> None:
        """Count the entry where its bucket differs."""
        digest = hashlib.sha256(entry.encode()).digest()
        if int.from_bytes(digest[:4], "big") % BUCKETS in self._buckets:
            self._counts[entry] += times

    def differences(self) -> list[tuple[str, int]]:
        """Entries with unequal counts, and by how much the positive side leads."""
        return sorted((entry, count) for entry, count in self._counts.items() if count)
