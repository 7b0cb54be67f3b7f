"""Checks of vouchers beside the book and the stock, at one instant.

Every voucher's redemption, captures and refunds stand in the book as it tells them, and nothing else there names it;
what it holds is held on its citizen's page; what it took of pots is what they miss; values are those of its promise.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.ledger.audit.findings import Audit
from backend.ledger.audit.store import find_homes, find_pages, stream_told
from backend.ledger.model import TransactionKind, citizen_owner, split_account
from backend.rewards.offers.store import list_sizes
from backend.rewards.stock.store import stream_pots
from backend.rewards.vouchers import rules
from backend.rewards.vouchers.documents import FORGOTTEN
from backend.rewards.vouchers.making import AT_ONCE, seal_of
from backend.rewards.vouchers.model import OPEN, VoucherStatus
from backend.rewards.vouchers.store import find_numbered, stream_vouchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Any

    from backend.ledger.audit.findings import Side
    from backend.ledger.model import OwnerId, Page
    from backend.mongo.client import Document, Snapshot
    from backend.rewards.vouchers.model import Voucher

BATCH = 500


async def audit_vouchers(snapshot: Snapshot, audit: Audit) -> None:
    """Check all vouchers of the snapshot; findings go to ``audit``."""
    tally = Tally()
    await _pass(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _pass(snapshot, Audit(), suspects)
        for entry, lead in suspects.differences():
            side = "is told by a voucher and not in the book" if lead > 0 else "names a voucher that does not tell it"
            audit.report(f"transaction {entry.decode(errors='replace')}", side)


async def _pass(snapshot: Snapshot, audit: Audit, side: Side) -> None:
    taken: Counter[str] = Counter()
    async for vouchers in _batches(snapshot, audit):
        told = {one: None for voucher in vouchers for one in _transactions(voucher)}
        homes = await find_homes(snapshot, list(told))
        pages = await find_pages(snapshot, list({citizen_owner(voucher.citizen): None for voucher in vouchers}))
        numbered = await find_numbered(snapshot, [voucher.number for voucher in vouchers])
        for voucher in vouchers:
            place = f"voucher {voucher.id}"
            for problem in _problems(voucher, homes, pages):
                audit.report(place, problem)
            if numbered.get(voucher.number) != (voucher.id, voucher.citizen, voucher.merchant):
                audit.report(place, f"its number {voucher.number} stands for something else")
            side.add_all(one.encode() for one in _transactions(voucher))
            if voucher.status not in FORGOTTEN:
                for use in voucher.pots:
                    taken[use.pot] += use.units
    async for home in stream_told(snapshot):
        side.add(str(home).encode(), -1)
    await _check_pots(snapshot, audit, taken)


async def _batches(snapshot: Snapshot, audit: Audit) -> AsyncIterator[list[Voucher]]:
    batch: list[Voucher] = []
    async for voucher, is_sound in stream_vouchers(snapshot):
        if not is_sound:
            audit.report(f"voucher {voucher.id}", "has flags that do not follow from its status")
        batch.append(voucher)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _transactions(voucher: Voucher) -> Iterator[str]:
    """All transactions in the book that move points of the voucher, in their order; each once."""
    if voucher.promise.kind not in AT_ONCE:
        yield voucher.hold
    for capture in voucher.captures:
        yield capture.transaction
    for refund in voucher.refunds:
        yield refund.transaction


def _problems(voucher: Voucher, homes: Mapping[str, Document], pages: Mapping[OwnerId, Page]) -> Iterator[str]:
    yield from _posting_problems(voucher, homes)
    yield from _sum_problems(voucher)
    page = pages.get(citizen_owner(voucher.citizen))
    held = {hold.id: hold.amount for hold in page.holds} if page else {}
    expected = voucher.points - voucher.points_captured
    if voucher.status in OPEN:
        # From its end on the book frees a hold by itself, perhaps before the voucher is marked.
        if voucher.hold in held and held[voucher.hold] != expected:
            yield f"holds {held[voucher.hold]} points, not {expected}"
        elif voucher.hold not in held and page and page.at and page.at < voucher.expires_at:
            yield "is open and holds nothing"
    elif voucher.hold in held:
        yield f"is {voucher.status} and still holds {held[voucher.hold]} points"


def _posting_problems(voucher: Voucher, homes: Mapping[str, Document]) -> Iterator[str]:
    kind = TransactionKind.TRANSFER if voucher.promise.kind in AT_ONCE else TransactionKind.HOLD
    promised = {"offer": voucher.offer, "promise": seal_of(voucher)}
    yield from _unlike(homes.get(voucher.hold), kind, voucher.points, voucher, promised)
    post = kind if kind is TransactionKind.TRANSFER else TransactionKind.POST
    for capture in voucher.captures:
        expected = {"at": capture.at, **({} if post is kind else {"hold.id": voucher.hold})}
        yield from _unlike(homes.get(capture.transaction), post, capture.points, voucher, expected, capture.fen)
    for refund in voucher.refunds:
        expected = {"at": refund.at, "corrects": refund.of}
        yield from _unlike(
            homes.get(refund.transaction), TransactionKind.REVERSE, refund.points, voucher, expected, -refund.fen
        )


def _unlike(
    home: Mapping[str, Any] | None,
    kind: TransactionKind,
    points: int,
    voucher: Voucher,
    expected: Mapping[str, Any],
    fen: int | None = None,
) -> Iterator[str]:
    """In what a transaction is not what the voucher tells of it."""
    if home is None:
        yield f"its {kind} is not in the book"
        return
    [posting] = home["postings"]
    people = {split_account(posting[side]).owner for side in ("from", "to")}
    cause = home["cause"]
    told = {
        "kind": home["kind"],
        "points": posting["amount"],
        "voucher": cause.get("voucher"),
        "offer": cause.get("offer"),
        "promise": cause.get("promise"),
        "at": home["at"],
        "corrects": home.get("corrects"),
        "hold.id": home.get("hold", {}).get("id"),
    }
    due = {"kind": kind.value, "points": points, "voucher": voucher.id, **expected}
    for name, value in due.items():
        if told[name] != value:
            yield f"{home['_id']} has {name} {told[name]}, the voucher {value}"
    if citizen_owner(voucher.citizen) not in people:
        yield f"{home['_id']} moves points of somebody else"
    if "merchant" in cause and fen is not None:
        terms = (voucher.merchant, str(fen), str(voucher.promise.commission_bps))
        if (cause["merchant"], cause.get("fen"), cause.get("commission_bps")) != terms:
            yield f"{home['_id']} tells the settlement something else than the voucher"


def _sum_problems(voucher: Voucher) -> Iterator[str]:
    captured, refunded = voucher.points_captured, voucher.points_refunded
    if not (0 <= refunded <= captured <= voucher.points and voucher.items_captured <= voucher.items):
        yield f"captured {captured} and refunded {refunded} of {voucher.points} points"
    if captured != voucher.points * voucher.items_captured // voucher.items:
        yield f"{voucher.items_captured} of {voucher.items} items are not worth {captured} points"
    fen = sum(capture.fen for capture in voucher.captures) - sum(refund.fen for refund in voucher.refunds)
    worth = rules.value_fen(voucher.promise, captured - refunded)
    if fen != worth:
        yield f"is worth {worth} fen to the merchant, its captures and refunds say {fen}"
    has_captures = bool(voucher.captures)
    if has_captures is (voucher.status in {VoucherStatus.HELD, *FORGOTTEN}):
        yield f"is {voucher.status} with {len(voucher.captures)} captures"
    if (voucher.status is VoucherStatus.REFUNDED) and refunded != captured:
        yield f"is refunded by {refunded} of {captured} points"


async def _check_pots(snapshot: Snapshot, audit: Audit, taken: Counter[str]) -> None:
    """Units that pots miss are with vouchers, or in somebody's hand."""
    sizes = await list_sizes(snapshot)
    async for pot, proven in stream_pots(snapshot):
        if pot.total != sizes.get(pot.id, pot.total):
            audit.report(f"pot {pot.id}", f"has {pot.total} units, its offer says {sizes[pot.id]}")
        missing, had = pot.used + proven, taken.pop(pot.id, 0)
        if missing != had:
            audit.report(f"pot {pot.id}", f"misses {missing} units, vouchers have {had}")
    for name, units in taken.items():
        if units:
            audit.report(f"pot {name}", f"does not exist, vouchers have {units} units of it")
