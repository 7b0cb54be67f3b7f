"""A book without a server: what the service does to pages, one transaction after the other, and random histories of it.

Only for tests of pure code. Every history is well-formed; much of it is refused, as in life.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from backend.kernel.errors import Refusal
from backend.ledger import corrections, rules, shape
from backend.ledger.corrections import Correction, Standing
from backend.ledger.expiry import endings
from backend.ledger.lots import PointsPolicy
from backend.ledger.model import (
    BANK,
    MINTS,
    POINTS,
    QUANTIFIED,
    UNMINTING,
    OwnerId,
    Page,
    Terms,
    Transaction,
    TransactionKind,
    account_of,
    exchange_of,
    is_guarded,
    split_account,
)
from tests.factories import (
    account,
    adjustment,
    capture,
    earning,
    holding,
    owner,
    paying,
    posting,
    release,
    restatement,
    reversal,
    shop,
)
from tests.trading import FIRM
from tests.unit.ledger.market_acts import MARKET_ACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backend.kernel.ids import TransactionId
    from backend.ledger.model import AccountId, Applied, Asset

Kind = TransactionKind
SHANGHAI = ZoneInfo("Asia/Shanghai")
POLICY = PointsPolicy(SHANGHAI)
NOON = datetime(2026, 11, 21, 4, tzinfo=UTC)
NAMES = ("alice", "bob", "carol")
DAY = timedelta(days=1)


def midnight(year: int, month: int, day: int, zone: ZoneInfo = SHANGHAI) -> datetime:
    """The first instant of that day there."""
    return datetime(year, month, day, tzinfo=zone).astimezone(UTC)


class Posted(NamedTuple):
    """A transaction as it was posted: on which pages, on which terms, and what it did."""

    transaction: Transaction
    terms: Terms
    before: Mapping[OwnerId, Page]
    applied: Applied


@dataclass
class Book:
    """The pages, and everything posted in order."""

    policy: PointsPolicy = POLICY
    pages: dict[OwnerId, Page] = field(default_factory=dict)
    journal: list[Posted] = field(default_factory=list)

    def post(self, transaction: Transaction, at: datetime = NOON) -> Applied:
        """Post it with what is lent for it and repaid after it; a refusal leaves the book as it was."""
        shape.check(transaction)
        if transaction.corrects is not None:
            transaction = corrections.prepare(transaction, self.standing(transaction.corrects))
        found = ((one, self.pages.get(one)) for one in transaction.owners)
        pages = {one: page for one, page in found if page}
        at = max([at, *(page.at for page in pages.values() if page.at)])
        steps: list[Posted] = []
        if transaction.kind in UNMINTING and self.policy.debt_allowed:
            for lending in rules.lendings(transaction, pages, at):
                self._step(lending, pages, at, steps)
        applied = self._step(transaction, pages, at, steps)
        if self.policy.repays_debt_first:
            for repayment in rules.repayments(transaction, pages, at):
                self._step(repayment, pages, at, steps)
        self.pages |= pages
        self.journal += steps
        return applied

    def _step(self, transaction: Transaction, pages: dict[OwnerId, Page], at: datetime, steps: list[Posted]) -> Applied:
        terms = Terms(at, self.policy.opens(transaction.kind, at))
        before = dict(pages)
        applied = rules.apply(transaction, pages, terms)
        pages.update(applied.pages)
        steps.append(Posted(transaction, terms, before, applied))
        return applied

    def standing(self, transaction: TransactionId) -> Standing | None:
        """The transaction as corrections see it."""
        found = next((posted for posted in self.journal if posted.transaction.id == transaction), None)
        if found is None:
            return None
        return Standing(
            transaction=found.transaction,
            lots={
                account_of(entry.owner, POINTS): line.lots
                for entry in found.applied.entries
                for line in entry.lines
                if line.asset == POINTS
            },
            corrections=[
                Correction(posted.transaction, posted.applied.taken)
                for posted in self.journal
                if posted.transaction.corrects == transaction
            ],
        )

    def page(self, one: str | OwnerId = "alice") -> Page:
        """The page of a citizen, by name, or of any owner."""
        key = OwnerId(one) if ":" in one else owner(one)
        return self.pages.get(key) or Page(key)

    def lots(self, one: str | OwnerId = "alice") -> dict[datetime, int]:
        """The owner's free lots."""
        return dict(self.page(one).lots)


class Step(NamedTuple):
    """One thing that happens: which, between whom, how much, and after how long."""

    act: str
    people: tuple[str, ...]
    amount: int
    pick: int
    pause: timedelta


PAUSES = st.sampled_from([timedelta(), timedelta(), timedelta(milliseconds=1), DAY, 12 * DAY, 31 * DAY, 370 * DAY])


def _choose(book: Book, kinds: set[Kind], pick: int, among: set[TransactionId] | None = None) -> Transaction | None:
    found = [posted.transaction for posted in book.journal if posted.transaction.kind in kinds]
    chosen = [one for one in found if among is None or one.id in among]
    return chosen[pick % len(chosen)] if chosen else None


def _pay(_book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    payees = (account(step.people[1]), shop(), account_of(FIRM, POINTS))
    return [paying(key, account(step.people[0]), payees[step.pick % 3], step.amount)]


def _several(_book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    """Earned, partly passed on, and a little returned, at once."""
    one, two = account(step.people[0]), account(step.people[1])
    part = max(1, step.amount - step.pick)
    moved = (
        posting(MINTS[POINTS], one, step.amount),
        posting(MINTS[QUANTIFIED], account(step.people[0], QUANTIFIED), step.amount),
        posting(one, two, part),
        posting(two, one, 1),
    )
    return [Transaction(key=key, kind=Kind.EARN, postings=moved)]


def _hold(_book: Book, step: Step, key: str, at: datetime) -> list[Transaction]:
    asset = QUANTIFIED if step.pick == 0 else POINTS
    payee = account(step.people[1], asset) if step.pick % 2 else shop(asset=asset)
    until = at + (15 if step.pick % 3 else 400) * DAY
    return [holding(key, account(step.people[0], asset), payee, step.amount, until=until)]


def _end(book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    """A hold still open is posted or set free, or tried to be; now and then one that has ended."""
    holds = {hold.id for page in book.pages.values() for hold in page.holds} if step.pick else None
    hold = _choose(book, {Kind.HOLD}, step.pick, holds)
    if hold is None:
        return []
    way = (step.amount + step.pick) % 3
    # An order is never posted: trades draw on it.
    if way == 0 or hold.postings[0].to_account == exchange_of(hold.postings[0].asset):
        return [release(hold, key)]
    return [capture(hold, key, min(step.amount, hold.postings[0].amount), final=way == 1)]


def _correct(book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    original = _choose(book, set(corrections.CORRECTABLE), step.pick)
    # Money that left by the bank does not come back by the book.
    if original is None or BANK in {moved.to_account for moved in original.postings}:
        return []
    return [reversal(original, key, tuple(min(step.amount, moved.amount) for moved in original.postings))]


def _restate(book: Book, step: Step, key: str, _at: datetime) -> list[Transaction]:
    original = _choose(book, {Kind.EARN}, step.pick)
    if original is None or len(original.postings) > 1:
        return []
    return [restatement(original, step.amount if step.pick % 2 else -step.amount, key)]


def _clear(book: Book, _step: Step, _key: str, at: datetime) -> list[Transaction]:
    return [ended for page in book.pages.values() for ended in endings(page, at)]


ACTS: Mapping[str, Callable[[Book, Step, str, datetime], list[Transaction]]] = {
    "earn": lambda _b, step, key, _at: [earning(key, step.people[0], 3 * step.amount)],
    "earn mg": lambda _b, step, key, _at: [earning(key, step.people[0], step.amount, QUANTIFIED)],
    "pay": _pay,
    "several": _several,
    "hold": _hold,
    "end": _end,
    "correct": _correct,
    "restate": _restate,
    "adjust": lambda _b, step, key, _at: (
        [adjustment(step.amount - 15, key, step.people[0])] if step.amount != 15 else []
    ),
    "clear": _clear,
    **MARKET_ACTS,
}
STEPS = st.builds(
    Step,
    act=st.sampled_from(["hold", "end", "pay", "correct", *(act for act in ACTS if act not in MARKET_ACTS)]),
    people=st.permutations(NAMES).map(tuple),
    amount=st.integers(1, 30),
    pick=st.integers(0, 9),
    pause=PAUSES,
)
# A market with something in it: credits and fen of two citizens, the firm and the pool, and orders of each.
OPENING = [
    Step(act, people, amount, pick, timedelta())
    for people in ((*NAMES,), (*NAMES[::-1],))
    for act, amount, pick in (
        *(("earn g", 30, 0), ("pool", 30, 0), ("pool", 15, 0)),
        *(("issue", 15, 0), ("issue", 9, 2), ("issue", 11, 3)),
        *(("deposit", 20, pick) for pick in (0, 2, 3)),
        *(("order", 7, pick) for pick in (0, 2, 3)),
        *(("order", 24, pick) for pick in (0, 2, 3)),
    )
]
TRADES = st.builds(
    Step,
    act=st.sampled_from([*MARKET_ACTS, "order", "order", "trade", "trade", "trade", "end", "correct", "clear"]),
    people=st.permutations(NAMES).map(tuple),
    amount=st.integers(1, 30),
    pick=st.integers(0, 9),
    pause=st.sampled_from([timedelta(), timedelta(), timedelta(milliseconds=1), DAY, 31 * DAY]),
)
HISTORIES = st.lists(STEPS, min_size=5, max_size=40) | st.lists(TRADES, min_size=5, max_size=40).map(
    lambda steps: [*OPENING, *steps]
)


def play(
    steps: list[Step],
    on_refusal: Callable[[Transaction, Refusal], None] | None = None,
    book: Book | None = None,
) -> Book:
    """The book after everybody earned something and these steps, the refused ones left out."""
    book, at = book or Book(), NOON
    for name in NAMES:
        book.post(earning(f"first of {name}", name, 40), at)
    for number, step in enumerate(steps):
        at += step.pause
        for transaction in ACTS[step.act](book, step, f"step-{number}", at):
            try:
                book.post(transaction, at)
            except Refusal as refusal:
                if on_refusal:
                    on_refusal(transaction, refusal)
    return book


def guarded(posted: Posted) -> list[OwnerId]:
    """The owners whose pages the transaction turned."""
    assert all(is_guarded(one) for one in posted.applied.pages)
    return list(posted.applied.pages)


def lent(posted: Posted, asset: Asset) -> int:
    """What owners' debts of that asset changed by; less where they owe more."""
    return _change(posted, asset, lambda name: split_account(name).is_debt)


def outside(posted: Posted, asset: Asset) -> int:
    """What the transaction gave to accounts that keep no lots or balance: programme's, merchants', debts."""
    return _change(posted, asset, lambda name: split_account(name).is_debt or not is_guarded(split_account(name).owner))


def _change(posted: Posted, asset: Asset, counts: Callable[[AccountId], bool]) -> int:
    moved = [] if posted.transaction.kind is Kind.HOLD else posted.transaction.postings
    return sum(one.amount * (counts(one.to_account) - counts(one.from_account)) for one in moved if one.asset == asset)
