"""Pictures of offers: each made safe, stored once under the digest of its bytes, and never changed."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, NewType

from backend.rewards.offers.imaging import to_webp
from backend.rewards.offers.store import PictureStore

if TYPE_CHECKING:
    from backend.kernel.clock import Clock
    from backend.mongo.client import Database

PictureId = NewType("PictureId", str)
PICTURE_ID = re.compile(r"[0-9a-f]{64}")


class Pictures:
    """Pictures of one programme."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._store = PictureStore(database)
        self._clock = clock
        # One at a time: a picture of a few kilobytes may take hundreds of megabytes to decode.
        self._decoding = asyncio.Lock()

    async def save(self, raw: bytes) -> PictureId:
        """Store a picture; the id is the SHA-256 of what is shown. The same picture again is the same id.

        Raises:
            PictureError: it is none.
            PictureTooLargeError: it has more bytes or pixels than one may have.
        """
        async with self._decoding:
            webp = await asyncio.to_thread(to_webp, raw)
        picture = PictureId(hashlib.sha256(webp).hexdigest())
        await self._store.insert(picture, webp, self._clock.now())
        return picture

    async def find(self, picture: str) -> bytes | None:
        """The WebP of that id."""
        return await self._store.find(picture) if PICTURE_ID.fullmatch(picture) else None
