"""The serials of a round's sellers, read with one query; see ``serials``."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from backend.market.serials.model import SerialRange
from backend.market.serials.store import PAGE, SERIALS, SerialSheet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.ledger.model import Asset, OwnerId

AHEAD = 2_000


class TradedSerials(SerialSheet):
    """A sheet of serials that reads those of many owners at once."""

    async def read_ahead(self, credit: Asset, owners: Sequence[OwnerId]) -> None:
        """Read the first ranges of each of the owners as far as they are few; the rest is read where it is needed."""
        if not owners:
            return
        found = await self._tx.find(
            SERIALS.name,
            {"owner": {"$in": list(owners)}, "credit": credit},
            sort=[("owner", 1), ("credit", 1), ("first", 1)],
            limit=AHEAD,
        )
        ranges: dict[OwnerId, list[SerialRange]] = {owner: [] for owner in owners}
        for document in found:
            ranges[document["owner"]].append(SerialRange(int(document["first"]), int(document["last"])))
        # Where the answer was cut, the last owner may have more, and whoever follows was not read.
        last = found[-1]["owner"] if len(found) == AHEAD else None
        for owner, runs in ranges.items():
            if last is not None and owner > last:
                continue
            here = self._now.setdefault((owner, credit), [])
            for run in runs:
                self._stored[credit, run.first] = (run, owner)
                insort(here, run)
            self._read[owner, credit] = runs[-1].first if owner == last else None


assert PAGE < AHEAD
