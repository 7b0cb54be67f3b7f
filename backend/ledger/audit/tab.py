"""An owner's position while the replay goes along their sequence: changed in place, which is quicker than new pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backend.ledger.model import Lot, OwnerId, Page
from backend.ledger.sealing.canonical import milliseconds, moment_of

if TYPE_CHECKING:
    from backend.ledger.model import Asset, Hold, Transaction

BEFORE_ALL = -(2**63)
# Names that JSON writes as they stand, in ASCII, and that no account confuses with another.
PLAIN_NAME = re.compile(r"[!#-9;-\[\]-~]+")
Row = tuple[int, int, int]  # what the owner has, has reserved of it, and owes, of one asset
NOTHING: Row = (0, 0, 0)
Undecoded = tuple[memoryview, int, int]  # a batch, and where in it a document begins and how long it is


class Tab:
    """The position after ``version`` transactions; ``at`` and the lots' ends in milliseconds.

    ``kind`` is the kind of owner, or nothing where the name is not plain. ``lent`` are loans that wait for
    their correction, each with the page before it; ``last`` is the last transaction's document, undecoded, and ``owed``
    what may be repaid right after it. ``differences`` counts what was found wrong.
    """

    __slots__ = (
        "at",
        "differences",
        "holds",
        "kind",
        "last",
        "lent",
        "lots",
        "owed",
        "owner",
        "raw",
        "rows",
        "version",
    )

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.owner = OwnerId(raw.decode(errors="replace"))
        kind, _, name = self.owner.partition(":")
        self.kind = kind if PLAIN_NAME.fullmatch(name) else ""
        self.version = 0
        self.at = BEFORE_ALL
        self.rows: dict[Asset, Row] = {}
        self.lots: dict[int, int] = {}
        self.holds: tuple[Hold, ...] = ()
        self.lent: list[tuple[Page, Transaction]] = []
        self.owed: list[Transaction] | None = None
        self.last: Undecoded | None = None
        self.differences = 0

    def page(self) -> Page:
        """The position as the rules know it."""
        return Page(
            owner=self.owner,
            version=self.version,
            at=moment_of(self.at) if self.version else None,
            balances={asset: posted for asset, (posted, _, _) in self.rows.items()},
            debts={asset: debt for asset, (_, _, debt) in self.rows.items() if debt},
            lots=tuple(Lot(moment_of(end), amount) for end, amount in sorted(self.lots.items())),
            holds=self.holds,
        )

    def turn(self, page: Page) -> None:
        """Take over the position that the rules gave."""
        self.version = page.version
        self.at = milliseconds(page.at) if page.at else BEFORE_ALL
        held: dict[Asset, int] = {}
        for hold in page.holds:
            held[hold.asset] = held.get(hold.asset, 0) + hold.amount
        self.rows = {asset: (posted, held.get(asset, 0), page.debt(asset)) for asset, posted in page.balances.items()}
        self.lots = {milliseconds(end): amount for end, amount in page.lots}
        self.holds = page.holds
