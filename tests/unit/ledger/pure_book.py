"""A book kept in memory by the pure rules, as the service keeps it on servers, and traces of it by readable names."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backend.kernel.ids import CitizenId, TransactionId
from backend.ledger import corrections, rules, shape
from backend.ledger.attribution import Attribution, Movement
from backend.ledger.corrections import Correction, Standing
from backend.ledger.expiry import endings
from backend.ledger.lots import PointsPolicy
from backend.ledger.model import (
    MINTS,
    POINTS,
    UNMINTING,
    AccountId,
    HoldRef,
    OwnerId,
    Page,
    Posting,
    Terms,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    split_account,
)
from backend.ledger.provenance import (
    MAX_STEPS,
    Credit,
    Fate,
    Meter,
    Origin,
    Trace,
    Tracer,
    Use,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from backend.ledger.model import Asset, Lots

Kind = TransactionKind
ALICE, BOB, CAROL = (citizen_owner(CitizenId(name)) for name in ("alice", "bob", "carol"))
FIRM, SHOP = OwnerId("enterprise:firm"), OwnerId("merchant:shop")
OWNERS = (ALICE, BOB, CAROL, FIRM)
START = datetime(2026, 11, 2, 1, tzinfo=UTC)
POLICY = PointsPolicy(ZoneInfo("Asia/Shanghai"), lifetime_months=2, grace_days=10)


def points(owner: OwnerId) -> AccountId:
    return account_of(owner, POINTS)


def move(payer: AccountId, payee: AccountId, amount: int) -> Posting:
    asset = split_account(payer).asset
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=amount)


@dataclass
class Book:
    """The service's book without its servers: pages, and what stands on each owner's, in its sequence."""

    now: datetime = START
    pages: dict[OwnerId, Page] = field(default_factory=dict)
    posted: dict[str, Transaction] = field(default_factory=dict)
    taken: dict[str, tuple[Lots, ...]] = field(default_factory=dict)
    movements: defaultdict[OwnerId, list[tuple[Asset, Movement]]] = field(default_factory=lambda: defaultdict(list))
    lots: dict[str, dict[AccountId, Lots]] = field(default_factory=lambda: defaultdict(dict))

    def post(self, transaction: Transaction) -> str:
        """Post it as the service does, with what is lent for it or repaid after it; its key."""
        shape.check(transaction)
        if transaction.corrects is not None:
            transaction = corrections.prepare(transaction, self._standing(transaction.corrects))
        pages = {owner: self.pages[owner] for owner in transaction.owners if owner in self.pages}
        done = []
        if transaction.kind in UNMINTING:
            done += [self._apply(one, pages) for one in rules.lendings(transaction, pages, self.now)]
        done.append(self._apply(transaction, pages))
        done += [self._apply(one, pages) for one in rules.repayments(transaction, pages, self.now)]
        self.pages.update(pages)
        for one, terms, applied in done:
            self.posted[one.key] = one
            self.taken[one.key] = applied.taken
            for entry in applied.entries:
                for line in entry.lines:
                    movement = Movement(one.id, one, terms, applied.taken, line)
                    self.movements[entry.owner].append((line.asset, movement))
                    if line.asset == POINTS:
                        self.lots[one.key][points(entry.owner)] = line.lots
        return transaction.key

    def _standing(self, corrected: TransactionId) -> Standing | None:
        found = next((one for one in self.posted.values() if one.id == corrected), None)
        before = [Correction(one, self.taken[key]) for key, one in self.posted.items() if one.corrects == corrected]
        return Standing(found, self.lots[found.key], before) if found else None

    def _apply(self, transaction: Transaction, pages: dict[OwnerId, Page]) -> tuple[Transaction, Terms, rules.Applied]:
        terms = Terms(self.now, POLICY.opens(transaction.kind, self.now))
        applied = rules.apply(transaction, pages, terms)
        pages.update(applied.pages)
        return transaction, terms, applied

    def attribution(self, account: AccountId) -> Attribution:
        owner, asset, _ = split_account(account)
        page = Attribution(account)
        for of, movement in self.movements[owner]:
            if of == asset:
                page.apply(movement)
        return page

    def tracer(self, *, reader: OwnerId | None = None, limit: int = MAX_STEPS) -> Tracer:
        known: dict[AccountId, Attribution] = {}
        meter = Meter(limit)

        async def load(account: AccountId) -> Attribution:
            if account not in known:
                known[account] = self.attribution(account)
                meter.charge(known[account].steps)
            return known[account]

        return Tracer(load, meter, reader)

    def back(self, key: str, *, asset: Asset = POINTS, reader: OwnerId | None = None) -> Trace:
        return run(self.tracer(reader=reader).back(self.posted[key], asset))

    def forward(self, key: str, *, asset: Asset = POINTS, reader: OwnerId | None = None) -> Fate:
        return run(self.tracer(reader=reader).forward(self.posted[key], asset))

    # What tests post, by name.

    def earn(self, key: str, amount: int, owner: OwnerId = ALICE) -> str:
        posting = move(MINTS[POINTS], points(owner), amount)
        return self.post(Transaction(key=key, kind=Kind.EARN, postings=(posting,), cause={"action": f"act_{key}"}))

    def pay(self, key: str, amount: int, owner: OwnerId = ALICE, to: OwnerId = SHOP) -> str:
        posting = move(points(owner), points(to), amount)
        return self.post(Transaction(key=key, kind=Kind.TRANSFER, postings=(posting,)))

    def reverse(self, key: str, amount: int, of: str) -> str:
        [original] = self.posted[of].postings
        posting = move(original.to_account, original.from_account, amount)
        return self.post(Transaction(key=key, kind=Kind.REVERSE, postings=(posting,), corrects=self.posted[of].id))

    def hold(self, key: str, amount: int, hours: int = 1) -> str:
        posting = move(points(ALICE), points(SHOP), amount)
        end = self.now + timedelta(hours=hours)
        return self.post(Transaction(key=key, kind=Kind.HOLD, postings=(posting,), expires_at=end))

    def capture(self, key: str, hold: str, amount: int, *, final: bool = True) -> str:
        reserved = self.posted[hold]
        posting = dataclasses.replace(reserved.postings[0], amount=amount)
        ref = HoldRef(ALICE, reserved.id)
        return self.post(Transaction(key=key, kind=Kind.POST, postings=(posting,), hold=ref, final=final))

    def expire(self) -> None:
        for page in tuple(self.pages.values()):
            for ending in endings(page, self.now):
                if ending.key not in self.posted:
                    self.post(ending)


def run(answer: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that waits for nothing returns."""
    try:
        answer.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


def names(book: Book, found: Iterable[Origin | Use]) -> list[tuple[Any, ...]]:
    """Rows by the keys of their transactions: key, amount, and the transfers in between if any."""
    keys = {transaction.id: key for key, transaction in book.posted.items()}
    return [(keys[row.transaction], row.amount, *(keys[one] for one in row.through)) for row in found]


def origins(book: Book, key: str, **given: Any) -> list[tuple[Any, ...]]:
    [part] = book.back(key, **given).parts
    assert sum(origin.amount for origin in part.origins) == part.posting.amount
    return names(book, part.origins)


def credit(book: Book, key: str, **given: Any) -> Credit:
    [found] = book.forward(key, **given).credits
    assert sum(use.amount for use in found.uses) + found.unspent == found.posting.amount
    assert isinstance(found, Credit)
    return found


def uses(book: Book, key: str, **given: Any) -> list[tuple[Any, ...]]:
    return names(book, credit(book, key, **given).uses)
