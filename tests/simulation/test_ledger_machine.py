"""The ledger on a real server against the reference ledger, over histories that Hypothesis makes up.

``TANHUI_TEST_PROFILE=nightly`` makes them long; ``TANHUI_SEED`` repeats a run, ``TANHUI_BLOB`` the one failing history
whose blob Hypothesis printed as ``@reproduce_failure``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
    run_state_machine_as_test,
)

from backend.ledger.model import (
    DONATIONS,
    MINTS,
    POINTS,
    Asset,
    Posting,
    Transaction,
    TransactionKind,
)
from tests import factories
from tests.factories import account, shop
from tests.simulation.chance import IS_NIGHTLY, chosen_seed
from tests.simulation.ledger_market import MarketMachine
from tests.simulation.machine import AMOUNTS, ASSETS, NAMES, PEOPLE, SHARES, Bookkeeping
from tests.simulation.real import open_ledger

if TYPE_CHECKING:
    from backend.ledger.model import AccountId
    from backend.settings import Settings

MINUTES = st.sampled_from([5, 60, 50_000, 1_500_000, 1_500_000, 1_500_000])
# Of a hold: quarters that are posted, and whether the rest is freed.
PARTS = st.lists(st.tuples(SHARES, st.booleans()), min_size=1, max_size=3)
PAUSES = st.sampled_from([0, 0, 0, 0, 5, 60, 50_000])
EXAMPLES, STEPS = (150, 50) if IS_NIGHTLY else (40, 20)


class HoldMachine(Bookkeeping):
    """Holds, and points that come back, with little else to keep them apart."""

    @rule(name=PEOPLE, asset=ASSETS, share=SHARES, to_friend=st.booleans(), minutes=MINUTES)
    def hold(self, name: str, asset: Asset, share: int, minutes: int, *, to_friend: bool) -> None:
        self.reserve(name, asset, share, minutes, to_friend=to_friend)

    def reserve(self, name: str, asset: Asset, share: int, minutes: int, *, to_friend: bool) -> Transaction | None:
        """The hold, if there is one now."""
        amount = self.some_of(name, asset, share)
        payee = account(NAMES[NAMES.index(name) - 1], asset) if to_friend else shop(asset=asset)
        until = self.now + timedelta(minutes=minutes)
        hold = factories.holding(self.key(), account(name, asset), payee, amount, until=until)
        self.holds.append(hold)
        return hold if self.both(hold) == "POSTED" else None

    @rule(name=PEOPLE, share=st.integers(1, 4), to_friend=st.booleans(), parts=PARTS)
    def hold_and_capture(self, name: str, share: int, parts: list[tuple[int, bool]], *, to_friend: bool) -> None:
        """In parts, of several lots, until no part is left, or more is asked for than is."""
        hold = self.reserve(name, POINTS, share, 60, to_friend=to_friend)
        if hold:
            for part, final in parts:
                amount = max(1, hold.postings[0].amount * part // 4)
                self.both(factories.capture(hold, self.key(), amount, final=final))

    @rule(name=PEOPLE, share=st.integers(1, 4), is_void=st.booleans(), early=st.integers(0, 1))
    def hold_until_the_last_instant(self, name: str, share: int, early: int, *, is_void: bool) -> None:
        """Ended a millisecond before the hold is over, or when it is; in that case lapsed."""
        hold = self.reserve(name, POINTS, share, 60, to_friend=False)
        if hold and hold.expires_at:
            self.real.clock.current = max(self.now, hold.expires_at - timedelta(milliseconds=early))
            self.both(factories.release(hold, self.key()) if is_void else factories.capture(hold, self.key()))
            self.expire()

    @rule(name=PEOPLE, share=st.integers(1, 4), days=st.lists(st.sampled_from([20, 40, 800]), min_size=1, max_size=3))
    def hold_longer_than_the_points_last(self, name: str, share: int, days: list[int]) -> None:
        """What was reserved returns when its lots are over: as grace, once."""
        for pause in days:
            hold = self.reserve(name, POINTS, share, 2_000_000, to_friend=False)
            self.pass_time(days=pause)
            if hold:
                self.both(factories.release(hold, self.key()))

    @precondition(lambda self: self.reference.holds)
    @rule(data=st.data(), minutes=PAUSES, share=st.integers(1, 4), final=st.booleans())
    def hold_ends(self, data: st.DataObject, minutes: int, share: int, *, final: bool) -> None:
        hold = data.draw(st.sampled_from([one for one in self.holds if f"hold:{one.id}" in self.reference.holds]))
        self.pass_time(minutes=minutes)
        left = self.reference.lots[f"hold:{hold.id}"].total()
        part = factories.capture(hold, self.key(), max(1, left * share // 4), final=final)
        self.both(data.draw(st.sampled_from([part, part, factories.release(hold, self.key())])))

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=SHARES, kind=st.sampled_from([TransactionKind.VOID, TransactionKind.LAPSE, None]))
    def any_hold_ends(self, data: st.DataObject, share: int, kind: TransactionKind | None) -> None:
        """Also those that ended, those that were refused; more than was reserved."""
        hold = data.draw(st.sampled_from(self.holds))
        amount = max(1, hold.postings[0].amount * share // 4)
        post = factories.capture(hold, self.key(), amount)
        self.both(factories.release(hold, self.key(), kind=kind) if kind else post)

    @rule(data=st.data(), name=PEOPLE, share=st.integers(1, 4), days=st.sampled_from([0, 0, 0, 30, 800]))
    def spend_and_get_back(self, data: st.DataObject, name: str, share: int, days: int) -> None:
        """Two refunds of one spending, in parts, to lots that may be over by then."""
        spent = factories.spending(self.key(), name, amount=self.some_of(name, POINTS, share))
        if self.both(spent) == "POSTED":
            for _ in range(2):
                self.pass_time(days=days)
                part = data.draw(st.integers(1, spent.postings[0].amount))
                self.both(factories.reversal(spent, self.key(), (part,)))


class LedgerMachine(HoldMachine):
    """Everything the ledger can do."""

    @rule(people=st.permutations(NAMES), share=SHARES)
    def transfer(self, people: list[str], share: int) -> None:
        self.both(factories.transfer(self.key(), people[0], people[1], self.some_of(people[0], POINTS, share)))

    @rule(data=st.data(), count=st.integers(1, 4))
    def several_postings(self, data: st.DataObject, count: int) -> None:
        is_earning = data.draw(st.booleans())
        postings = [self.leg(data, is_earning=is_earning) for _ in range(count)]
        kind = TransactionKind.EARN if is_earning else TransactionKind.TRANSFER
        self.both(Transaction(key=self.key(), kind=kind, postings=tuple(postings)))

    @staticmethod
    def leg(data: st.DataObject, *, is_earning: bool) -> Posting:
        asset, amount = data.draw(ASSETS), data.draw(AMOUNTS)
        people: list[AccountId] = [account(name, asset) for name in NAMES]
        others = [shop(asset=asset), *([DONATIONS] if asset == POINTS else [])]
        payer = data.draw(st.sampled_from([MINTS[asset], *people] if is_earning else people))
        payees = people if is_earning else [*people, *others]
        payee = data.draw(st.sampled_from([one for one in payees if one != payer]))
        return factories.posting(payer, payee, amount)

    @rule(points=st.integers(-20, 20), fen=st.integers(-99, 99).filter(bool), commission=st.integers(0, 5))
    def settle(self, points: int, fen: int, commission: int) -> None:
        """A period either way, and what is paid out of it: of the merchant and the programme, on nobody's page."""
        assert self.both(factories.settlement(self.key(), "shop", points, fen, commission)) == "POSTED"
        assert self.both(factories.payout(self.key(), "shop", abs(fen))) == "POSTED"

    # Corrections

    def original(self, data: st.DataObject) -> Transaction:
        """Mostly one that can be corrected."""
        posted = list(self.reference.posted.values())
        sound = [one for one in posted if any(left and way[0] == one.id for way, left in self.reference.left.items())]
        return data.draw(st.sampled_from([*sound, *sound, *posted]))

    @precondition(lambda self: self.reference.posted)
    @rule(data=st.data(), share=SHARES)
    def reverse(self, data: st.DataObject, share: int) -> None:
        original = self.original(data)
        amounts = tuple(max(1, posting.amount * share // 4) for posting in original.postings)
        if amounts:
            self.both(factories.reversal(original, self.key(), amounts))

    @rule(name=PEOPLE, amount=AMOUNTS, shares=st.tuples(SHARES, st.integers(1, 4), st.integers(1, 4)))
    def earn_spend_and_lose(self, name: str, amount: int, shares: tuple[int, int, int]) -> None:
        """An earning is taken back in parts after some of it is spent: what is missing becomes a debt."""
        earned = factories.earning(self.key(), name, amount)
        self.both(earned)
        self.spend(name, POINTS, shares[0])
        for share in shares[1:]:
            self.both(factories.reversal(earned, self.key(), (max(1, amount * share // 4),)))

    @rule(people=st.permutations(NAMES), amount=AMOUNTS, share=st.integers(1, 4))
    def earn_together_and_lose_alone(self, people: list[str], amount: int, share: int) -> None:
        """One transaction of two parties, corrected twice on the side of the one who is not its home."""
        legs = [factories.posting(MINTS[POINTS], account(name), amount) for name in people[:2]]
        earned = Transaction(key=self.key(), kind=TransactionKind.EARN, postings=tuple(legs))
        self.both(earned)
        for _ in range(2):
            self.both(factories.reversal(earned, self.key(), (0, max(1, amount * share // 4))))

    @precondition(lambda self: self.reference.posted)
    @rule(data=st.data(), change=st.integers(-40, 40).filter(bool))
    def restate(self, data: st.DataObject, change: int) -> None:
        earned = [
            tx for tx in self.reference.posted.values() if tx.kind == TransactionKind.EARN and len(tx.postings) == 1
        ]
        if earned:
            self.both(factories.restatement(data.draw(st.sampled_from(earned)), change, self.key()))

    @rule(name=PEOPLE, asset=ASSETS, change=st.integers(-40, 40).filter(bool))
    def adjust(self, name: str, asset: Asset, change: int) -> None:
        self.both(factories.adjustment(change, self.key(), name, asset))

    # Keys and company

    def known(self, data: st.DataObject) -> Transaction:
        """What somebody posted: what the ledger made itself nobody else can even write down."""
        posted = self.reference.posted
        return data.draw(st.sampled_from([posted[one.id] for one in self.made if one.id in posted]))

    @rule(data=st.data(), minutes=st.integers(0, 3))
    def replay(self, data: st.DataObject, minutes: int) -> None:
        known = self.known(data)
        if known.expires_at:
            known = replace(known, expires_at=known.expires_at + timedelta(minutes=minutes))
        assert self.both(known) == "REPLAYED"

    @rule(data=st.data(), extra=AMOUNTS)
    def replay_with_other_content(self, data: st.DataObject, extra: int) -> None:
        known = self.known(data)
        others = [replace(known, cause={**known.cause, "note": "other"})]
        if known.postings:
            first, *rest = known.postings
            others.append(replace(known, postings=(replace(first, amount=first.amount + extra), *rest)))
        if known.kind == TransactionKind.POST:
            others.append(replace(known, final=not known.final))
        assert self.both(data.draw(st.sampled_from(others))) == "IDEMPOTENCY_CONFLICT"

    @rule(data=st.data(), count=st.integers(2, 5))
    def batch(self, data: st.DataObject, count: int) -> None:
        """All in one MongoDB transaction: one refusal undoes the others."""
        self.both(*self.some(data, count))

    @rule(data=st.data(), count=st.integers(2, 6))
    def crowd(self, data: st.DataObject, count: int) -> None:
        """Many callers at once: each is answered for itself, as if they had queued."""
        crowd = self.some(data, count)
        expected = [self.reference.post([transaction], self.now) for transaction in crowd]
        self.made += crowd
        assert self.real.post_together(crowd) == [None if one in {"POSTED", "REPLAYED"} else one for one in expected]

    def some(self, data: st.DataObject, count: int) -> list[Transaction]:
        """Different things about the same three people, some about each other, now and then the same twice."""
        chosen: list[Transaction] = []
        for number in range(count):
            key = f"{self.key()}-{number}"
            name = data.draw(PEOPLE)
            amount = self.some_of(name, POINTS, data.draw(SHARES))
            hold = factories.holding(key, account(name), amount=amount, until=self.now + timedelta(hours=1))
            options = [
                factories.earning(key, name, data.draw(AMOUNTS)),
                factories.spending(key, name, amount=amount),
                factories.transfer(key, name, NAMES[NAMES.index(name) - 1], amount),
                hold,
                *(factories.capture(one, key) for one in chosen if one.kind == TransactionKind.HOLD),
                *chosen[:1],
            ]
            chosen.append(data.draw(st.sampled_from(options)))
        self.holds += [one for one in chosen if one.kind == TransactionKind.HOLD]
        return chosen

    @rule()
    def seal(self) -> None:
        self.real.run(self.real.services.sealing.seal_now())


@pytest.mark.parametrize("machine", [HoldMachine, LedgerMachine, MarketMachine])
def test_the_ledger_agrees_with_the_reference(settings: Settings, machine: type[Bookkeeping]) -> None:
    with open_ledger(settings) as real:
        bound = type(f"Bound{machine.__name__}", (machine,), {"real": real})
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
)
