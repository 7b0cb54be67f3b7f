"""Checks of serials beside the book, at one instant.

Every credit's serials lie side by side from 1 on; each owner has as many as the book gives them; and the serials that
the transactions name, followed from the mint through every hand, end where they are stored.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from backend.kernel.tally import Tally
from backend.kernel.units import MG_PER_GRAM
from backend.ledger.audit.store import stream_of_credits
from backend.ledger.model import AccountId, OwnerId, Purpose, credit_account, is_credit, is_guarded, split_account
from backend.market.serials.model import parse_ranges, total_grams
from backend.market.serials.store import RETIRED, retired_owner, stream_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backend.ledger.audit.findings import Audit, Side
    from backend.ledger.model import Asset
    from backend.market.serials.model import SerialRange
    from backend.mongo.client import Document, Snapshot

ISSUER = OwnerId("issuer")


async def audit_serials(snapshot: Snapshot, audit: Audit) -> None:
    """Check all serials of the snapshot; findings go to ``audit``, whose balances are those of the book."""
    tally = Tally()
    held = await _stored(snapshot, audit, tally)
    await _told(snapshot, audit, tally)
    suspects = tally.suspects()
    if suspects:
        await _stored(snapshot, None, suspects)
        await _told(snapshot, None, suspects)
        for entry, lead in suspects.differences():
            side = "stored and not told by the book" if lead > 0 else "told by the book and not stored"
            audit.report(f"serials {entry.decode(errors='replace')}", side)
    _compare(held, audit)


async def _stored(snapshot: Snapshot, audit: Audit | None, side: Side) -> Counter[str]:
    """Go through all ranges; how many grams each account of the book should have."""
    held: Counter[str] = Counter()
    before: tuple[str, int] = ("", 0)
    async for credit, run, owner, is_named in stream_ranges(snapshot):
        due = before[1] + 1 if before[0] == credit else 1
        if audit is not None and (run.first != due or run.last < run.first):
            audit.report(f"serials {credit}#{run}", f"do not begin at {due}")
        if audit is not None and not is_named:
            audit.report(f"serials {credit}#{run}", "have the id of another place")
        before = (credit, run.last)
        held[_account(credit, owner)] += run.grams
        held[credit_account(Purpose.ISSUING, credit)] -= run.grams
        _count(side, credit, run, owner, 1)
        _count(side, credit, run, ISSUER, -1)
    return held


def _account(credit: Asset, owner: OwnerId) -> str:
    """The account in which the serial's gram lies, guarded owners' of one kind together, as the auditor adds up."""
    if owner.startswith(RETIRED):
        return credit_account(Purpose.RETIRED, credit)
    return f"{owner.partition(':')[0]}:*:{credit}"


def _count(side: Side, credit: Asset, run: SerialRange, owner: OwnerId, sign: int) -> None:
    """A range as the two places where what its owner has of the credit changes."""
    side.add(f"{credit} {owner} {run.first}".encode(), sign)
    side.add(f"{credit} {owner} {run.last + 1}".encode(), -sign)


async def _told(snapshot: Snapshot, audit: Audit | None, side: Side) -> None:
    """Go through all transactions of credits."""
    async for document in stream_of_credits(snapshot):
        try:
            for credit, runs, payer, payee in _moves(document):
                for run in runs:
                    _count(side, credit, run, payee, -1)
                    _count(side, credit, run, payer, 1)
        except (KeyError, ValueError) as error:
            if audit is not None:
                audit.report(f"transaction {document['_id']}", f"tells no serials: {error}")


def _moves(document: Document) -> Iterator[tuple[Asset, tuple[SerialRange, ...], OwnerId, OwnerId]]:
    """Which serials the transaction moved, from whom to whom.

    Raises:
        KeyError, ValueError: it does not say.
    """
    cause = document["cause"]
    moved = [posting for posting in document["postings"] if is_credit(posting["asset"]) and document["kind"] != "HOLD"]
    for posting in moved:
        runs = parse_ranges(cause["serials"])
        if (posting["asset"], posting["amount"]) != (cause["credit"], total_grams(runs) * MG_PER_GRAM):
            message = f"{cause['serials'][:80]} is not {posting['amount']} mg of {posting['asset']}"
            raise ValueError(message)
        payer, payee = (_owner(posting[side], cause) for side in ("from", "to"))
        yield posting["asset"], runs, payer, payee


def _owner(account: AccountId, cause: dict[str, str]) -> OwnerId:
    """Who has the serials of what lies in that account."""
    owner, credit, _ = split_account(account)
    if is_guarded(owner):
        return owner
    return retired_owner(cause["certificate"]) if account == credit_account(Purpose.RETIRED, credit) else ISSUER


def _compare(held: Counter[str], audit: Audit) -> None:
    """What ranges and book give, account by account."""
    booked = {name: amount for name, amount in audit.balances.items() if ":credit:" in name}
    for name in sorted({*held, *booked}):
        if held[name] * MG_PER_GRAM != booked.get(name, 0):
            audit.report(f"serials of {name}", f"are {held[name]} grams, the book has {booked.get(name, 0)} mg")
