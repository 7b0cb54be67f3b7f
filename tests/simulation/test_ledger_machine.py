"""The ledger on a real server against the reference ledger, over histories that Hypothesis makes up."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from backend.kernel.errors import DomainError
from backend.kernel.ids import CitizenId
from backend.ledger.model import (
    MINTS,
    POINTS,
    QUANTIFIED,
    Asset,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
)
from backend.ledger.store import PAGES, TRANSACTIONS
from backend.runtime import Services, open_services
from tests.conftest import dump
from tests.factories import replay as replay_book
from tests.simulation.reference import Answer, Reference

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from typing import Any

    from backend.settings import Settings

NAMES = ("alice", "bob", "carol")
ASSETS = (POINTS, QUANTIFIED)
PEOPLE = st.sampled_from(NAMES)
AMOUNTS = st.integers(1, 40)


@dataclass
class RealLedger:
    """The service, called from code that knows no loop."""

    runner: asyncio.Runner
    services: Services

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(call)

    def post(self, transaction: Transaction) -> Answer | None:
        """POSTED or REPLAYED cannot be told apart from outside, and need not be: both are None."""
        try:
            posted = self.run(self.services.ledger.post(transaction))
        except DomainError as error:
            return Answer(error.code)
        assert posted == transaction.id
        return None

    def clear(self) -> None:
        for collection in (PAGES, TRANSACTIONS):
            self.run(self.services.database.raw[collection.name].delete_many({}))


@contextmanager
def real_ledger(chosen: Settings) -> Iterator[RealLedger]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        services = runner.run(stack.enter_async_context(open_services(chosen)))
        try:
            yield RealLedger(runner, services)
            runner.run(services.database.client.drop_database(chosen.database))
        finally:
            runner.run(stack.aclose())


def moving(key: str, legs: list[tuple[str | None, str, Asset, int]]) -> Transaction:
    """A transaction of (payer or mint, payee, asset, amount) legs."""
    return Transaction(
        key=key,
        kind=TransactionKind.TRANSFER if all(payer for payer, *_ in legs) else TransactionKind.EARN,
        postings=tuple(
            Posting(
                from_account=account_of(citizen_owner(CitizenId(payer)), asset) if payer else MINTS[asset],
                to_account=account_of(citizen_owner(CitizenId(payee)), asset),
                asset=asset,
                amount=amount,
            )
            for payer, payee, asset, amount in legs
            if payer != payee
        ),
    )


class LedgerMachine(RuleBasedStateMachine):
    """Every step is done to both ledgers; they must answer alike and hold the same."""

    real: RealLedger

    def __init__(self) -> None:
        super().__init__()
        self.real.clear()
        self.reference = Reference()
        self.keys = iter(f"key-{number}" for number in range(10_000))

    def both(self, transaction: Transaction) -> Answer:
        expected = self.reference.post(transaction)
        is_refusal = expected in {Answer.CONFLICT, Answer.INSUFFICIENT}
        changes_nothing = expected is not Answer.POSTED
        before = self.real.run(dump(self.real.services)) if changes_nothing else None
        assert self.real.post(transaction) == (expected if is_refusal else None)
        if changes_nothing:
            assert self.real.run(dump(self.real.services)) == before
        return expected

    @rule(payee=PEOPLE, asset=st.sampled_from(ASSETS), amount=AMOUNTS)
    def earn(self, payee: str, asset: Asset, amount: int) -> None:
        assert self.both(moving(next(self.keys), [(None, payee, asset, amount)])) is Answer.POSTED

    @rule(people=st.permutations(NAMES), amount=AMOUNTS)
    def transfer(self, people: list[str], amount: int) -> None:
        self.both(moving(next(self.keys), [(people[0], people[1], POINTS, amount)]))

    @rule(
        legs=st.lists(
            st.tuples(st.none() | PEOPLE, PEOPLE, st.sampled_from(ASSETS), AMOUNTS).filter(
                lambda leg: leg[0] != leg[1]
            ),
            min_size=1,
            max_size=5,
        )
    )
    def several_at_once(self, legs: list[tuple[str | None, str, Asset, int]]) -> None:
        self.both(moving(next(self.keys), legs))

    @rule(people=st.permutations(NAMES), extra=AMOUNTS)
    def overspend(self, people: list[str], extra: int) -> None:
        balance = self.reference.balances.get(f"citizen:{people[0]}:points", 0)
        answer = self.both(moving(next(self.keys), [(people[0], people[1], POINTS, balance + extra)]))
        assert answer is Answer.INSUFFICIENT

    @precondition(lambda self: self.reference.transactions)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(list(self.reference.transactions.values())))
        assert self.both(known) is Answer.REPLAYED

    @precondition(lambda self: self.reference.transactions)
    @rule(data=st.data(), extra=AMOUNTS)
    def replay_with_other_content(self, data: st.DataObject, extra: int) -> None:
        known = data.draw(st.sampled_from(list(self.reference.transactions.values())))
        first, *rest = known.postings
        other = replace(known, postings=(replace(first, amount=first.amount + extra), *rest))
        assert self.both(other) is Answer.CONFLICT

    @invariant()
    def pages_agree(self) -> None:
        for name in NAMES:
            owner = citizen_owner(CitizenId(name))
            page = self.real.run(self.real.services.ledger.get_page(owner))
            expected: Mapping[str, int] = {
                asset: self.reference.balances.get(f"{owner}:{asset}", 0) for asset in ASSETS
            }
            assert {asset: page.balance(asset) for asset in ASSETS} == expected
            assert page.version == self.reference.touching(owner)

    def teardown(self) -> None:
        audit = self.real.run(replay_book(self.real.services))
        assert audit.findings == []
        assert audit.transactions == len(self.reference.transactions)


def test_the_ledger_agrees_with_the_reference(settings: Settings) -> None:
    with real_ledger(settings) as real:
        machine = type("BoundLedgerMachine", (LedgerMachine,), {"real": real})
        run_state_machine_as_test(machine, settings=HISTORIES)


HISTORIES = settings(
    max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
