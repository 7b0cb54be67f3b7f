"""Third parties' codes: encrypted at rest, added once, each given to one voucher and to none other ever."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from backend.kernel.crypto import decrypt, encrypt, keyed_hash
from backend.kernel.errors import InvalidInputError, Text
from backend.kernel.ids import derived_id
from backend.rewards.offers import rules
from backend.rewards.offers.errors import SoldOutError
from backend.rewards.offers.store import CodeStore, SealedCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.kernel.clock import Clock
    from backend.mongo.client import Database
    from backend.rewards.merchants.model import MerchantId
    from backend.rewards.offers.model import OfferId

DIGITS = 32


class OfferCodes:
    """The pool of codes of every code offer. ``key`` (32 bytes) encrypts them, ``lookup_key`` tells them apart."""

    def __init__(self, database: Database, clock: Clock, *, key: bytes, lookup_key: bytes) -> None:
        self._store = CodeStore(database)
        self._clock = clock
        self._key = key
        self._lookup_key = lookup_key

    def code_ids(self, merchant: MerchantId, codes: Sequence[str]) -> dict[str, str]:
        """The codes, without blanks around them, by the id that each has among the merchant's.

        Raises:
            InvalidInputError: none or more than 5,000, one that is no code, or one twice.
        """
        if not 1 <= len(codes) <= rules.MAX_CODES_A_CALL:
            raise InvalidInputError("codes", Text(f"1–{rules.MAX_CODES_A_CALL} 个", f"1–{rules.MAX_CODES_A_CALL}"))
        ids: dict[str, str] = {}
        for place, code in enumerate(map(rules.require_code, codes), 1):
            name = derived_id("code", keyed_hash(self._lookup_key, "offer code", merchant, code))
            if name in ids:
                raise InvalidInputError("codes", Text(f"第 {place} 个重复", f"number {place} is there twice"))
            ids[name] = code
        return ids

    def seal(self, offer: OfferId, ids: dict[str, str]) -> list[SealedCode]:
        """The codes as they are stored."""
        return [SealedCode(name, encrypt(self._key, code.encode(), _context(offer))) for name, code in ids.items()]

    async def give(self, offer: OfferId, voucher: str) -> str:
        """The code of that voucher: the one it was given, or from now on a free one. Repeated, always the same.

        Raises:
            SoldOutError: none is left.
        """
        sealed = await self._store.find_given(voucher)
        if sealed is None:
            start = f"code_{secrets.token_hex(DIGITS // 2)}"
            sealed = await self._store.claim(offer, voucher, start, self._clock.now())
        if sealed is None:
            raise SoldOutError(offer, 0)
        return decrypt(self._key, sealed, _context(offer)).decode()


def _context(offer: OfferId) -> str:
    return f"offer code {offer}"
