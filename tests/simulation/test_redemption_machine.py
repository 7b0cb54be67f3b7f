"""Redemption on a real server, by two processes, against the model, over histories that Hypothesis makes up.

``TANHUI_TEST_PROFILE=nightly`` makes them long; ``TANHUI_SEED`` repeats a run, ``TANHUI_BLOB`` the one failing history
whose blob Hypothesis printed as ``@reproduce_failure``.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from backend.kernel.ids import shard_of
from tests.factories import account, owner
from tests.simulation.chance import IS_NIGHTLY, chosen_seed
from tests.simulation.redemption_model import (
    GOODS,
    OPEN,
    ROOT,
    Answer,
    Cancel,
    Capture,
    Complain,
    Decide,
    Model,
    Redeem,
    Refund,
    Request,
    Ticket,
    explanations,
    step_at,
)
from tests.simulation.redemption_months import REST
from tests.simulation.redemption_real import (
    MERCHANTS,
    NAMES,
    RealStreets,
    open_streets,
    seen,
    settled,
    stated,
    stored_vouchers,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.settings import Settings
    from tests.simulation.redemption_real import Dump

EXAMPLES, STEPS = (150, 60) if IS_NIGHTLY else (18, 30)
SHARDS = sorted({shard_of(owner(name)) for name in NAMES})
PEOPLE = st.sampled_from(NAMES)
STAFF = {"cafe": ("cafe.cai", "cafe.dora"), "bakery": ("bakery.ben", "bakery.eva")}
PAUSES_S = st.sampled_from([1, 31, 31, 45, 700, 4_000])
PAUSES_D = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 1, 8, 31, 500])
KINDS = (Redeem, Redeem, Cancel, Capture, Capture, Refund, Complain, Decide)
IN_PARTS = ("card", "card", "card", "cake", "coffee", "gift", "film", "tree")
SOLD = ("coffee", "card", "film", "bread", "cake", "gift")
SCARCE = ("last", "last", "fresh", "treat", "film", "bread", "cake")


@dataclass(frozen=True)
class Plan:
    """What somebody is about to ask, drawn before it is known what there will be to ask about.

    Of many at once, which succeed is not Hypothesis's to say; so nothing it draws may depend on that.
    """

    kind: type
    name: str
    offer: str
    units: int
    pick: int
    is_other: bool
    part: int
    items: int | None
    skew: int
    is_forged: bool


SELDOM = st.integers(0, 9).map(lambda number: number == 9)
PLANS = st.builds(
    Plan,
    kind=st.sampled_from(KINDS),
    name=PEOPLE,
    offer=st.sampled_from(sorted(GOODS)),
    units=st.sampled_from([1, 1, 2, 3]),
    pick=st.integers(0, 999),
    is_other=SELDOM,
    part=st.integers(0, 4),
    items=st.sampled_from([None, 1, 1, 2, 31]),
    # Steps of the code shown, counted from the present one.
    skew=st.sampled_from([0, 0, 0, 0, 0, 1, -1, -1, -2, 2, -40]),
    is_forged=SELDOM,
)


class RedemptionMachine(RuleBasedStateMachine):
    """Every request is made to both; they must answer alike and hold the same."""

    real: RealStreets

    def __init__(self) -> None:
        super().__init__()
        self.real.clear()
        self.model = Model(self.real.services.programme.zone)
        self.count = 0
        self.asked: list[Request] = []
        self.before: Dump = self.real.dump()

    @property
    def now(self) -> Any:
        return self.real.clock.now()

    def key(self) -> str:
        self.count += 1
        return f"request-{self.count:04}"

    # Requests

    def request(self, plan: Plan) -> Request:
        """Something anybody could ask for; mostly by whom it concerns."""
        tickets, key = sorted(self.model.records), self.key()
        if plan.kind is Redeem or not tickets:
            return Redeem(plan.name, plan.offer, plan.units, key)
        ticket = tickets[plan.pick % len(tickets)]
        record = self.model.records[ticket]
        home = STAFF[record.goods.merchant]
        name = plan.name if plan.is_other else ticket[0]
        cashier = STAFF[MERCHANTS[plan.pick % 2]][0] if plan.is_other else home[plan.pick % len(home)]
        left = record.captured - record.refunded
        points = (1, max(1, left // 2), max(1, left), left + 1, None)[plan.part]
        if plan.kind is Cancel:
            return Cancel(name, ticket, key)
        if plan.kind is Capture:
            return Capture(cashier, ticket, plan.items, step_at(self.now) + plan.skew, plan.is_forged, key)
        if plan.kind is Refund:
            return Refund(ROOT if plan.skew < 0 else cashier, ticket, points, key)
        if plan.kind is Complain:
            return Complain(name, ticket, key)
        return Decide(ROOT, ticket, points or 0, key)

    def both(self, request: Request) -> Answer:
        """The model's answer, which must be the real one's; a refusal and a repetition change nothing."""
        is_known = (request.name, type(request).__name__, request.key) in self.model.used
        expected = self.model.ask(request, self.now)
        answer = self.real.ask(request)
        assert answer == expected, request
        self.asked.append(request)
        before, self.before = self.before, self.real.dump()
        if expected[0] != "OK" or is_known:
            assert seen(self.before, before) == seen(before, before), request
        return expected

    @initialize(amounts=st.tuples(*[st.integers(80, 400)] * 3), pause=st.sampled_from([40, 400]))
    def some_have_earned(self, amounts: tuple[int, ...], pause: int) -> None:
        """Lots of two months to begin with."""
        for part in (1, 3):
            for name, amount in zip(NAMES, amounts, strict=True):
                self.earn(name, amount // part)
            self.pass_time(days=pause if part == 1 else 0)

    @rule(name=PEOPLE, amount=st.integers(1, 90))
    def earn(self, name: str, amount: int) -> None:
        self.real.run(self.real.services.ledger.post(self.model.earn(name, amount, self.now)))
        # A refusal that follows at once changes nothing of this.
        self.before = self.real.dump()

    @rule(plans=st.lists(PLANS, min_size=1, max_size=4))
    def ask(self, plans: list[Plan]) -> None:
        for plan in plans:
            self.both(self.request(plan))

    @rule(
        plan=PLANS,
        offer=st.sampled_from(IN_PARTS),
        parts=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 31, 31])), max_size=3),
        refunded=st.integers(0, 40),
        goes_on=st.booleans(),
    )
    def redeem_and_go_on(
        self, plan: Plan, offer: str, parts: list[tuple[int, int]], refunded: int, *, goes_on: bool
    ) -> None:
        """What is bought is used, so that histories go deep; now and then with the same code twice."""
        key = self.key()
        if self.both(Redeem(plan.name, offer, plan.units, key))[0] != "OK":
            return
        ticket = plan.name, key
        cashier = STAFF[self.model.records[ticket].goods.merchant][0]
        for items, pause in parts:
            self.both(Capture(cashier, ticket, items, step_at(self.now), is_forged=False, key=self.key()))
            self.pass_time(seconds=pause)
        for _ in range(refunded % 3):
            self.both(Complain(plan.name, ticket, self.key()))
        if goes_on:
            decide, refund = Decide(ROOT, ticket, refunded // 2, self.key()), Refund(cashier, ticket, None, self.key())
            self.both(decide if refunded % 3 else refund)
        elif refunded:
            self.both(Refund(cashier, ticket, refunded, self.key()))

    @rule(pick=st.integers(0, 999))
    def ask_again(self, pick: int) -> None:
        """Also what was refused before, which then is no repetition."""
        if self.asked:
            self.both(self.asked[pick % len(self.asked)])

    @rule(pick=st.integers(0, 999))
    def ask_something_else_with_the_same_key(self, pick: int) -> None:
        used = list(self.model.used.values())
        if not used:
            return
        known = used[pick % len(used)]
        match known:
            case Redeem():
                other: Request = dataclasses.replace(known, units=known.units + 1)
            case Capture():
                other = dataclasses.replace(known, items=(known.items or 1) + 1)
            case Refund() | Decide():
                other = dataclasses.replace(known, points=(known.points or 1) + 1)
            case Cancel() | Complain():
                tickets = sorted(self.model.records)
                other = dataclasses.replace(known, ticket=tickets[pick % len(tickets)])
        answer = self.both(other)
        assert other == known or answer[0] in {"IDEMPOTENCY_CONFLICT", "TOO_MANY_CODES"}

    # Many at once

    @rule(plans=st.lists(PLANS, min_size=2, max_size=4), copies=st.integers(0, 2))
    def ask_together(self, plans: list[Plan], copies: int) -> None:
        """By two processes, some of it twice; the answers and what is held are those of some order."""
        requests = [self.request(plan) for plan in plans]
        self.together([*requests, *requests[:copies]])

    @rule(offer=st.sampled_from(SCARCE), plans=st.lists(PLANS, min_size=2, max_size=4))
    def rush(self, offer: str, plans: list[Plan]) -> None:
        """For what there is little of."""
        self.together([Redeem(plan.name, offer, min(plan.units, 2), self.key()) for plan in plans])

    @rule(plans=st.lists(PLANS, min_size=2, max_size=4))
    def quarrel(self, plans: list[Plan]) -> None:
        """About one voucher: handed over by several cashiers, cancelled, refunded."""
        tickets = [one for one, record in self.model.records.items() if record.status in OPEN] or sorted(
            self.model.records
        )
        if not tickets:
            return
        ticket = tickets[plans[0].pick % len(tickets)]
        staff, step = STAFF[self.model.records[ticket].goods.merchant], step_at(self.now)
        some: list[Request] = []
        for plan in plans:
            name = staff[plan.pick % len(staff)]
            options: list[Request] = [
                Capture(name, ticket, plan.items, step, is_forged=False, key=self.key()),
                Cancel(ticket[0], ticket, self.key()),
                Refund(name, ticket, plan.pick % 9 + 1, self.key()),
            ]
            some.append(options[plan.part % 3])
        self.together(some)

    def together(self, requests: Sequence[Request]) -> None:
        answers = self.real.ask_together(requests)
        self.before = self.real.dump()
        held = self.held(self.before)
        self.asked += requests
        should = []
        for model in explanations(self.model, list(zip(requests, answers, strict=True)), self.now):
            should.append(self.expected(model, held))
            if should[-1] == held:
                self.model = model
                return
        raise AssertionError(f"no order of {requests} gives {answers} and {held}, but {should}")

    # Time and workers

    @rule(seconds=PAUSES_S, days=PAUSES_D)
    def pass_time(self, seconds: int = 0, days: int = 0) -> None:
        self.real.clock.advance(timedelta(seconds=seconds, days=days))

    @rule(pick=st.integers(0, 99), early_ms=st.sampled_from([0, 1]))
    def pass_time_until_a_voucher_ends(self, pick: int, early_ms: int) -> None:
        ends = sorted(one.ends for one in self.model.records.values() if one.status in OPEN)
        if ends:
            until = ends[pick % len(ends)] - timedelta(milliseconds=early_ms)
            self.real.clock.current = max(self.now, until)

    @rule()
    def the_vouchers_worker_runs(self) -> None:
        assert self.real.run(self.real.streets[0].ending.end_due()) == self.model.end_due(self.now)

    @rule()
    def the_books_worker_runs(self) -> None:
        self.model.expire(NAMES, self.now)
        self.real.run(self.real.services.expiry.expire_due(SHARDS))

    @rule()
    def the_sweeper_runs(self) -> None:
        assert self.real.run(self.real.streets[1].pots.recover()) == 0

    @rule(early_ms=st.sampled_from([0, 0, 0, 1]), approved=st.integers(0, 9), paid=st.integers(0, 9))
    def the_month_ends(self, early_ms: int, approved: int, paid: int) -> None:
        """So late that nothing can be added to it any more, or just not."""
        self.real.clock.current = self.model.months.end(self.now) + REST - timedelta(milliseconds=early_ms)
        self.settle(approved, paid)

    @rule(name=PEOPLE, offer=st.sampled_from(SOLD), part=st.integers(1, 60), other=st.sampled_from((None, *SOLD)))
    def settle_and_give_back(self, name: str, offer: str, part: int, other: str | None) -> None:
        """What was settled is given back in the next month, alone or beside something new; that is settled too."""
        self.earn(name, 90)
        sold = self.sell(name, offer)
        self.the_month_ends(0, part, part)
        if sold:
            self.both(Refund(ROOT, sold, part if part < GOODS[offer].price else None, self.key()))
        if other:
            self.sell(name, other)
        self.the_month_ends(0, part, part // 2)

    def sell(self, name: str, offer: str) -> Ticket | None:
        """One unit redeemed and handed over."""
        ticket = name, self.key()
        if self.both(Redeem(name, offer, 1, ticket[1]))[0] == "OK" and GOODS[offer].kind == "VOUCHER":
            cashier = STAFF[GOODS[offer].merchant][0]
            self.both(Capture(cashier, ticket, None, step_at(self.now), is_forged=False, key=self.key()))
        return ticket if ticket in self.model.records else None

    def settle(self, approved: int, paid: int) -> None:
        """Make the statements due; some are approved, some paid, by others, in their order."""
        statements = self.model.months.statements
        assert self.real.close() == self.model.months.close(self.model.lines, self.now)
        for before, after, count in (("READY", "APPROVED", approved), ("APPROVED", "PAID", paid)):
            for one in [one for one in statements if one.stage == before][:count]:
                self.real.move_on(one.merchant, one.number, after)
                one.stage = after
        self.before = self.real.dump()

    # What is held

    @invariant()
    def both_hold_the_same(self) -> None:
        self.before = self.real.dump()
        held = self.held(self.before)
        assert held == self.expected(self.model, held)

    def held(self, dump: Dump) -> dict[str, Any]:
        """What the real ones hold."""
        of_id: dict[str, Any] = {voucher.id: ticket for ticket, voucher in self.real.vouchers.items()}
        vouchers = {of_id.get(one, one): voucher for one, voucher in stored_vouchers(dump).items()}
        return {
            "pages": self.real.pages(),
            "vouchers": {
                ticket: (
                    told(one),
                    (one.offer, one.units, one.points, one.items, one.day.isoformat(), one.expires_at, one.last_step),
                    {use.pot: use.units for use in one.pots},
                )
                for ticket, one in vouchers.items()
            },
            "pots": {one: (pot["total"], pot["free"], len(pot["pending"])) for one, pot in dump["stock_pots"].items()},
            "owed": {name: self.real.owed(name) for name in MERCHANTS},
            "statements": [stated(one) for one in self.real.statements()],
            "settled": settled(dump),
            "tries": sum(one["wrong"] for one in dump["voucher_tries"].values()),
            "unsent": len(dump["outbox"]),
            "heard": sum(len(street.heard) for street in self.real.streets),
        }

    def expected(self, model: Model, held: dict[str, Any]) -> dict[str, Any]:
        """What they should hold; a pot is there from when it was first asked."""
        asked = set(held["pots"]) | {pot for one in model.records.values() for pot in one.pots}
        return {
            "pages": {name: self.page(model, name) for name in NAMES},
            "vouchers": {
                ticket: (
                    one.told,
                    (one.offer, one.units, one.points, one.items, one.day, one.ends, one.last_step),
                    one.pots,
                )
                for ticket, one in model.records.items()
            },
            "pots": {pot: (model.total(pot), model.free(pot), 0) for pot in asked},
            "owed": {name: model.owed(name) for name in MERCHANTS},
            "statements": sorted(one.told for one in model.months.statements),
            "settled": model.months.postings(),
            "tries": sum(model.tries.values()),
            "unsent": 0,
            "heard": sum(isinstance(one, Capture | Refund) or is_upheld(one) for one in model.used.values())
            + len(model.months.statements),
        }

    def page(self, model: Model, name: str) -> Any:
        book, whose = model.book, account(name)
        holds = {
            ticket: dict(+book.lots[f"hold:{one.hold.id}"])
            for ticket, one in model.records.items()
            if ticket[0] == name and f"hold:{one.hold.id}" in book.holds
        }
        held = sum(sum(lots.values()) for lots in holds.values())
        return book.available(whose, self.now), held, dict(+book.lots[whose]), holds

    def teardown(self) -> None:
        """When all is settled, merchants have no points, and no money but what they owe."""
        self.real.clock.current = self.model.months.end(self.now) + REST
        everything = len(self.model.lines)
        self.settle(everything, everything)
        self.both_hold_the_same()
        for name in MERCHANTS:
            points, money, _ = self.real.owed(name)
            assert points == 0 >= money
        assert self.real.findings() == []


def is_upheld(request: Request) -> bool:
    return isinstance(request, Decide) and request.points > 0


def test_redemption_agrees_with_the_model(settings: Settings) -> None:
    with open_streets(settings) as real:
        bound = type("BoundRedemptionMachine", (RedemptionMachine,), {"real": real})
        hypothesis.seed(chosen_seed())(bound)
        if blob := os.environ.get("TANHUI_BLOB"):
            hypothesis.reproduce_failure(hypothesis.__version__, blob.encode())(bound)
        run_state_machine_as_test(bound, settings=HISTORIES)


HISTORIES = hypothesis.settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    # A shorter history takes minutes to find: at night there is time for that.
    phases=list(Phase) if IS_NIGHTLY else [Phase.explicit, Phase.generate],
)
