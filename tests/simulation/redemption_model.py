"""Redemption one can read in three minutes, written from the issue's words; must not import the rules it judges.

Nothing is counted up or down: what stock, limits and budgets miss, and what merchants are owed, follows from vouchers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from backend.ledger.model import BREAKAGE, DONATIONS, HoldRef, Transaction, TransactionKind
from tests.factories import account, earning, owner, paying, posting, shop
from tests.simulation.redemption_months import Line, Months
from tests.simulation.reference import Reference, demand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backend.ledger.model import AccountId

OPEN, FORGOTTEN = {"HELD", "PART"}, {"CANCELLED", "EXPIRED"}
STEP_S, TRIES, TRIES_S, DISPUTE_DAYS = 30, 10, 600, 30
BORN = datetime(2031, 11, 21, 3, 4, 5, 678_000, tzinfo=UTC)
CLOSES = BORN + timedelta(days=1_200)
ROOT = "root"
Answer = tuple[object, ...]
Ticket = tuple[str, str]
"""A voucher, by whose it is and the key it was made under."""


@dataclass(frozen=True)
class Goods:
    """What an offer promises; ``stock`` and ``limits`` are None for no bound."""

    merchant: str
    price: int
    kind: str = "VOUCHER"
    items: int = 1
    total: int | None = None
    daily: int | None = None
    per_day: int | None = None
    in_all: int | None = None
    is_paid: bool = True
    days: int = 7
    refund_days: int = 7


GOODS: Mapping[str, Goods] = {
    "coffee": Goods("cafe", 10),
    "last": Goods("cafe", 11, total=3),
    "fresh": Goods("cafe", 7, daily=2, days=0),
    "treat": Goods("cafe", 6, per_day=2, in_all=4),
    "card": Goods("cafe", 37, items=10, days=60),
    "film": Goods("cafe", 13, kind="CODE", total=4, refund_days=0),
    "tree": Goods("cafe", 9, kind="DONATION", refund_days=0),
    "gift": Goods("bakery", 8, is_paid=False),
    "bread": Goods("bakery", 15, days=40),
    "cake": Goods("bakery", 23, items=3),
}
BUDGETS = {"bakery": 43}
COMMISSIONS_BPS = {"cafe": {BORN: 230, BORN + timedelta(days=41): 1_700}, "bakery": {BORN: 200}}
"""By when the contract began."""


@dataclass(frozen=True)
class Redeem:
    name: str
    offer: str
    units: int
    key: str


@dataclass(frozen=True)
class Cancel:
    name: str
    ticket: Ticket
    key: str


@dataclass(frozen=True)
class Capture:
    """``name`` is ``merchant.cashier``; the code shown is of the voucher's ``step``, or forged."""

    name: str
    ticket: Ticket
    items: int | None
    step: int
    is_forged: bool
    key: str


@dataclass(frozen=True)
class Refund:
    name: str
    ticket: Ticket
    points: int | None
    key: str


@dataclass(frozen=True)
class Complain:
    name: str
    ticket: Ticket
    key: str


@dataclass(frozen=True)
class Decide:
    name: str
    ticket: Ticket
    points: int
    key: str


Request = Redeem | Cancel | Capture | Refund | Complain | Decide


@dataclass
class Record:
    """A voucher: what it was made of, how it stands, and its captures as transaction, points left, time."""

    offer: str
    units: int
    points: int
    day: str
    ends: datetime
    pots: dict[str, int]
    hold: Transaction
    bps: int
    status: str
    items_done: int = 0
    captured: int = 0
    refunded: int = 0
    captures: list[tuple[Transaction, int, datetime]] = field(default_factory=list)
    dispute: str | None = None
    last_step: int = 0

    @property
    def goods(self) -> Goods:
        return GOODS[self.offer]

    @property
    def items(self) -> int:
        return self.goods.items * self.units

    @property
    def fen(self) -> int:
        """What the merchant is owed for it: seven tenths of a fen a point, rounded once."""
        return worth(self.goods, self.captured - self.refunded)

    @property
    def told(self) -> tuple[object, ...]:
        return self.status, self.items_done, self.captured, self.refunded, self.fen, self.dispute


def worth(goods: Goods, points: int) -> int:
    return points * 7 // 10 if goods.is_paid and goods.kind != "DONATION" else 0


class Model:
    """Answers requests one after the other."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.book = Reference(zone)
        self.records: dict[Ticket, Record] = {}
        self.used: dict[tuple[str, str, str], Request] = {}
        self.tries: dict[tuple[str, int], int] = {}
        self.lines: list[Line] = []
        self.months = Months(zone, BORN, COMMISSIONS_BPS)

    def copied(self) -> Model:
        """Another that answers by itself; months are no request's doing."""
        other = Model(self.zone)
        vars(other.book).update(copy.deepcopy(vars(self.book), {id(tx): tx for tx in self.book.posted.values()}))
        other.records = {one: replace(record, captures=list(record.captures)) for one, record in self.records.items()}
        other.used, other.tries = dict(self.used), dict(self.tries)
        other.lines, other.months = list(self.lines), self.months
        return other

    def ask(self, request: Request, now: datetime) -> Answer:
        """``OK`` and the voucher as it stands afterwards, or why not."""
        try:
            if isinstance(request, Capture):
                self.look_at_code(request, now)
            key = request.name, type(request).__name__, request.key
            known = self.used.get(key)
            demand(known in (None, request), "IDEMPOTENCY_CONFLICT")
            if known is None:
                ACTS[type(request)](self, request, now)
                self.used[key] = request
        except ValueError as refusal:
            return refusal.args
        ticket = (request.name, request.key) if isinstance(request, Redeem) else request.ticket
        return ("OK", *ticket, *self.records[ticket].told)

    # Redeeming

    def redeem(self, one: Redeem, now: datetime) -> None:
        goods, today = GOODS[one.offer], self.day(now)
        demand(goods.kind != "CODE" or one.units == 1, "INVALID_INPUT")
        demand(now < CLOSES, "OFFER_CLOSED")
        for limit, day in ((goods.per_day, today), (goods.in_all, None)):
            if limit is not None and self.had(one.name, one.offer, day) + one.units > limit:
                raise ValueError("LIMIT_REACHED", limit)
        points = goods.price * one.units
        pots = self.pots(one.offer, one.units, worth(goods, points), now)
        for pot, units in pots.items():
            if self.free(pot) < units:
                raise ValueError(*(["BUDGET_SPENT"] if pot.startswith("budget") else ["SOLD_OUT", self.free(pot)]))
        available = self.book.available(account(one.name), now)
        if available < points:
            raise ValueError("INSUFFICIENT_POINTS", points, available)
        ends = self.midnight(now, goods.days + 1)
        made = Transaction(
            key=f"redeem:{one.name}:{one.key}",
            kind=TransactionKind.HOLD if goods.kind == "VOUCHER" else TransactionKind.TRANSFER,
            postings=(posting(account(one.name), self.payee(goods), points),),
            expires_at=ends if goods.kind == "VOUCHER" else None,
        )
        self.post(made, now)
        bps = [bps for begin, bps in COMMISSIONS_BPS[goods.merchant].items() if begin <= now][-1]
        record = Record(one.offer, one.units, points, today, ends, pots, made, bps, "HELD")
        if goods.kind != "VOUCHER":
            self.draw_line(record, points, now)
            record = replace(record, status="CAPTURED", items_done=one.units, captured=points)
            record.captures.append((made, points, now))
        self.records[one.name, one.key] = record

    def had(self, name: str, offer: str, day: str | None) -> int:
        """Units of an offer a citizen has, or handed in; what ended unused is forgotten."""
        return sum(
            record.units
            for (whose, _), record in self.records.items()
            if (whose, record.offer) == (name, offer) and day in (None, record.day) and record.status not in FORGOTTEN
        )

    def free(self, pot: str) -> int:
        gone = sum(one.pots.get(pot, 0) for one in self.records.values() if one.status not in FORGOTTEN)
        return self.total(pot) - gone

    @staticmethod
    def total(pot: str) -> int:
        kind, name, *_ = pot.split(":")
        return BUDGETS[name] if kind == "budget" else GOODS[name].total or GOODS[name].daily or 0

    def pots(self, offer: str, units: int, fen: int, now: datetime) -> dict[str, int]:
        goods, pots = GOODS[offer], {}
        if goods.total:
            pots[f"offer:{offer}"] = units
        if goods.daily:
            pots[f"offer:{offer}:{self.day(now)}"] = units
        if goods.merchant in BUDGETS and fen:
            pots[f"budget:{goods.merchant}:{self.day(now)[:8]}01"] = fen
        return pots

    @staticmethod
    def payee(goods: Goods) -> AccountId:
        return DONATIONS if goods.kind == "DONATION" else shop(goods.merchant)

    def draw_line(self, record: Record, points: int, now: datetime) -> None:
        """Note for the merchant's month what so many points more, or less, add; a donation is no merchant's."""
        goods, before = record.goods, record.captured - record.refunded
        fen = worth(goods, before + points) - worth(goods, before)
        if goods.kind != "DONATION":
            self.lines.append(Line(goods.merchant, now, points, fen, record.bps))

    # The counter

    def look_at_code(self, one: Capture, now: datetime) -> None:
        """Wrong codes are counted, in spans of ten minutes; another merchant's voucher is no voucher."""
        span = one.name, int(now.timestamp()) // TRIES_S
        demand(self.tries.get(span, 0) < TRIES, "TOO_MANY_CODES")
        is_known = (one.name, "Capture", one.key) in self.used
        if self.records[one.ticket].goods.merchant != one.name.split(".")[0] or (one.is_forged and not is_known):
            self.tries[span] = self.tries.get(span, 0) + 1
            raise ValueError("CODE_INVALID")

    def capture(self, one: Capture, now: datetime) -> None:
        record = self.records[one.ticket]
        demand(abs(one.step - step_at(now)) <= 1, "CODE_EXPIRED")
        self.require_open(record, now)
        demand(one.step > record.last_step, "CODE_REPLAYED")
        left = record.items - record.items_done
        items = one.items or left
        if items > left:
            raise ValueError("ITEMS_EXCEEDED", items, left)
        done = record.items_done + items
        points = record.points * done // record.items - record.captured
        moved = replace(record.hold.postings[0], amount=points)
        post = Transaction(
            key=f"capture:{one.name}:{one.key}",
            kind=TransactionKind.POST,
            postings=(moved,),
            hold=self.hold(one.ticket),
            final=items == left,
        )
        self.post(post, now)
        self.draw_line(record, points, now)
        record.items_done, record.captured, record.last_step = done, record.captured + points, one.step
        record.captures.append((post, points, now))
        record.status = "CAPTURED" if items == left else "PART"

    @staticmethod
    def require_open(record: Record, now: datetime) -> None:
        is_unfinished = record.items_done < record.items and record.status != "CANCELLED"
        demand(now < record.ends or not is_unfinished, "VOUCHER_EXPIRED")
        demand(record.status in OPEN, "VOUCHER_STATUS")

    def hold(self, ticket: Ticket) -> HoldRef:
        return HoldRef(owner(ticket[0]), self.records[ticket].hold.id)

    # Endings

    def cancel(self, one: Cancel, now: datetime) -> None:
        demand(one.ticket[0] == one.name, "UNKNOWN_VOUCHER")
        record = self.records[one.ticket]
        self.require_open(record, now)
        key = f"void:{one.ticket}"
        self.post(Transaction(key=key, kind=TransactionKind.VOID, hold=self.hold(one.ticket)), now)
        self.end(record, "CANCELLED")

    @staticmethod
    def end(record: Record, unused: str) -> None:
        done = "REFUNDED" if record.captured == record.refunded else "CAPTURED"
        record.status = done if record.captures else unused

    def end_due(self, now: datetime) -> int:
        """The vouchers' worker: what is over gives back what is held."""
        over = [one for one, record in self.records.items() if record.status in OPEN and record.ends <= now]
        for ticket in over:
            self.lapse(self.hold(ticket), now)
            self.end(self.records[ticket], "EXPIRED")
        return len(over)

    def lapse(self, hold: HoldRef, now: datetime) -> None:
        self.book.post([Transaction(key=f"lapse:{hold.id}", kind=TransactionKind.LAPSE, hold=hold)], now)

    def expire(self, names: tuple[str, ...], now: datetime) -> None:
        """The book's worker: holds that are over lapse, lots that were over before expire."""
        over = [(name, end, has) for name in names for end, has in self.book.lots[account(name)].items() if end <= now]
        for ticket, record in self.records.items():
            if f"hold:{record.hold.id}" in self.book.holds and record.ends <= now:
                self.lapse(self.hold(ticket), now)
        for name, end, has in sorted(over):
            moved = (posting(account(name), BREAKAGE, has),) if has else ()
            if moved:
                key = f"expire:{name}:{end}:{len(self.book.posted)}"
                self.post(Transaction(key=key, kind=TransactionKind.EXPIRE, postings=moved), now)

    # Afterwards

    def refund(self, one: Refund, now: datetime) -> None:
        record = self.records[one.ticket]
        is_staff = one.name == ROOT
        demand(is_staff or record.goods.merchant == one.name.split(".")[0], "UNKNOWN_VOUCHER")
        demand(record.captures, "VOUCHER_STATUS")
        until = record.captures[-1][2] + timedelta(days=record.goods.refund_days) if record.captures else now
        demand(is_staff or now < until, "REFUND_CLOSED")
        self.give_back(one, record, one.points, now)

    def give_back(self, one: Refund | Decide, record: Record, points: int | None, now: datetime) -> None:
        """The last captured first."""
        left = record.captured - record.refunded
        asked = left if points is None else points
        if not 0 < asked <= left:
            raise ValueError("REFUND_EXCEEDED", asked, left)
        for number, (capture, has, at) in reversed(list(enumerate(record.captures))):
            part = min(has, asked)
            if part:
                self.draw_line(record, -part, now)
                asked, record.refunded = asked - part, record.refunded + part
                record.captures[number] = capture, has - part, at
                taken = paying("", self.payee(record.goods), account(one.ticket[0]), part).postings
                key = f"{type(one).__name__}:{one.name}:{one.key}:{number}"
                kind = TransactionKind.REVERSE
                self.post(Transaction(key=key, kind=kind, postings=taken, corrects=capture.id), now)
        if record.status not in OPEN and record.refunded == record.captured:
            record.status = "REFUNDED"

    def complain(self, one: Complain, now: datetime) -> None:
        record = self.records[one.ticket]
        demand(one.ticket[0] == one.name, "UNKNOWN_VOUCHER")
        demand(record.captures, "VOUCHER_STATUS")
        demand(record.dispute is None, "DISPUTE_EXISTS")
        demand(now < record.captures[-1][2] + timedelta(days=DISPUTE_DAYS), "DISPUTE_CLOSED")
        record.dispute = "OPEN"

    def decide(self, one: Decide, now: datetime) -> None:
        record = self.records[one.ticket]
        demand(record.dispute == "OPEN", "NO_DISPUTE")
        if one.points:
            self.give_back(one, record, one.points, now)
        record.dispute = "UPHELD" if one.points else "DISMISSED"

    def owed(self, merchant: str) -> tuple[int, int, int]:
        """The merchant's points and money, and the fen that its captures were worth."""
        mine = [one for one in self.records.values() if one.goods.merchant == merchant and one.goods.kind != "DONATION"]
        points = sum(one.captured - one.refunded for one in mine) - self.months.points(merchant)
        return points, self.months.fen(merchant), sum(one.fen for one in mine)

    # Time and the book

    def earn(self, name: str, amount: int, now: datetime) -> Transaction:
        earned = earning(f"earn:{name}:{len(self.book.posted)}", name, amount)
        self.post(earned, now)
        return earned

    def post(self, transaction: Transaction, now: datetime) -> None:
        assert self.book.post([transaction], now) == "POSTED", transaction

    def day(self, now: datetime) -> str:
        return now.astimezone(self.zone).date().isoformat()

    def midnight(self, now: datetime, days: int) -> datetime:
        day = now.astimezone(self.zone).date() + timedelta(days=days)
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


def explanations(model: Model, told: list[tuple[Request, Answer]], now: datetime) -> Iterator[Model]:
    """The model after each order of the requests in which it gives these answers."""
    if not told:
        yield model
    tried: list[tuple[Request, Answer]] = []
    for number, (request, answer) in enumerate(told):
        if (request, answer) in tried:
            continue
        tried.append((request, answer))
        after = model.copied()
        if after.ask(request, now) == answer:
            yield from explanations(after, told[:number] + told[number + 1 :], now)


def step_at(now: datetime) -> int:
    """The half minute in which a code is new."""
    return int(now.timestamp()) // STEP_S


ACTS: Mapping[type, Callable[[Model, Any, datetime], None]] = {
    Redeem: Model.redeem,
    Cancel: Model.cancel,
    Capture: Model.capture,
    Refund: Model.refund,
    Complain: Model.complain,
    Decide: Model.decide,
}
