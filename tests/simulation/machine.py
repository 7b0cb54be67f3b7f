"""What every machine on the ledger does: each step to both ledgers, and after it all documents looked at."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from backend.kernel.ids import TransactionId, shard_of
from backend.ledger.model import (
    BREAKAGE,
    POINTS,
    QUANTIFIED,
    Asset,
    HoldRef,
    Transaction,
    TransactionKind,
    account_of,
    debt_of,
    split_account,
)
from tests import factories
from tests.factories import account, owner
from tests.simulation import stored
from tests.simulation.real import MALFORMED, RealLedger
from tests.simulation.reference import NEVER, Reference
from tests.trading import FIRM, POOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.ledger.model import AccountId, OwnerId

NAMES = ("alice", "bob", "carol")
OWNERS = (*map(owner, NAMES), FIRM, POOL)
SHARDS = sorted(set(map(shard_of, OWNERS)))
ASSETS = st.sampled_from((POINTS, POINTS, QUANTIFIED))
PEOPLE = st.sampled_from(NAMES)
AMOUNTS = st.integers(1, 40)
SHARES = st.integers(1, 5)
DAYS = st.sampled_from([0, 0, 0, 0, 0, 1, 20, 31, 200, 700, 1096])


def due(reference: Reference, pages: Mapping[str, stored.Document], now: datetime) -> list[Transaction]:
    """What the worker owes the book: holds that are over lapse, then lots that have ended expire."""
    over = [
        HoldRef(split_account(posting.from_account).owner, TransactionId(one.removeprefix("hold:")))
        for one, (posting, ends) in reference.holds.items()
        if ends <= now
    ]
    lapses = [Transaction(key=f"lapse:{hold.id}", kind=TransactionKind.LAPSE, hold=hold) for hold in over]
    lots = [(end, one, has) for one in map(account, NAMES) for end, has in reference.lots[one].items() if has]
    return lapses + [
        Transaction(
            key=f"expire:{payer}:{int(end.timestamp() * 1000)}:{pages[payer]['version']}",
            kind=TransactionKind.EXPIRE,
            postings=(factories.posting(one, BREAKAGE, has),),
        )
        for end, one, has in sorted(lots)
        for payer in [split_account(one).owner]
        if end <= now
    ]


class Bookkeeping(RuleBasedStateMachine):
    """Every step is done to both ledgers; they must answer alike and hold the same."""

    real: RealLedger

    def __init__(self) -> None:
        super().__init__()
        self.real.clear()
        self.reference = Reference(self.real.services.programme.zone)
        self.made: list[Transaction] = []
        self.holds: list[Transaction] = []
        self.before = self.read()

    def read(self) -> stored.Stored:
        return self.real.run(stored.Stored.read(self.real.services))

    @property
    def now(self) -> datetime:
        return self.real.clock.now()

    def key(self) -> str:
        return f"key-{len(self.made):03}"

    def both(self, *transactions: Transaction) -> str:
        """The reference's answer, which must be the real one's; only what is posted may change a document."""
        expected = self.reference.post(list(transactions), self.now)
        self.made += transactions
        untouched = self.digests() if expected != "POSTED" else None
        answer = self.real.post(list(transactions))
        # Some of what cannot be corrected cannot even be written down.
        is_same = answer == (None if expected in {"POSTED", "REPLAYED"} else expected)
        assert is_same or (expected, answer) == ("NOT_CORRECTABLE", MALFORMED), (expected, answer)
        assert untouched is None or self.digests() == untouched
        return expected

    def digests(self) -> Mapping[str, str]:
        return self.real.run(stored.digests(self.real.services))

    def some_of(self, name: str, asset: Asset, share: int) -> int:
        """Quarters of what can be spent: four are exactly all of it, five too much."""
        return self.part_of(owner(name), asset, share)

    def part_of(self, one: OwnerId, asset: Asset, share: int, unit: int = 1) -> int:
        """The same of any owner's, in whole units."""
        at = max(self.now, self.reference.at.get(one, self.now))
        return max(1, self.reference.available(account_of(one, asset), at) // unit * share // 4) * unit

    @initialize(pauses=st.tuples(st.sampled_from([40, 400]), st.sampled_from([40, 400])))
    def some_have_earned(self, pauses: tuple[int, int]) -> None:
        """Lots of three months to begin with."""
        for number, pause in enumerate([0, *pauses]):
            self.pass_time(days=pause)
            amounts = {name: 10 * (number + NAMES.index(name) + 1) for name in NAMES}
            self.both(*(factories.earning(f"{self.key()}-{name}", name, amount) for name, amount in amounts.items()))

    @rule(name=PEOPLE, asset=ASSETS, amount=AMOUNTS)
    def earn(self, name: str, asset: Asset, amount: int) -> None:
        assert self.both(factories.earning(self.key(), name, amount, asset)) == "POSTED"

    @rule(name=PEOPLE, asset=ASSETS, share=SHARES)
    def spend(self, name: str, asset: Asset, share: int) -> None:
        self.both(factories.spending(self.key(), name, amount=self.some_of(name, asset, share), asset=asset))

    @rule(minutes=st.sampled_from([1, 5, 60]), days=DAYS)
    def pass_time(self, minutes: int = 0, days: int = 0) -> None:
        self.real.clock.advance(timedelta(minutes=minutes, days=days))

    @rule(seconds=st.integers(1, 600))
    def a_server_lags_behind(self, seconds: int) -> None:
        self.real.clock.advance(timedelta(seconds=-seconds))

    @rule()
    def expire(self) -> None:
        owed = due(self.reference, self.read().pages, self.now)
        if owed:
            assert self.reference.post(owed, self.now) == "POSTED"
        owners = {tx.hold.owner if tx.hold else split_account(tx.postings[0].from_account).owner for tx in owed}
        assert self.real.run(self.real.services.expiry.expire_due(SHARDS)) == len(owners)
        settled = self.digests()
        assert self.real.run(self.real.services.expiry.expire_due(SHARDS)) == 0
        assert self.digests() == settled

    @invariant()
    def documents_are_in_order(self) -> None:
        after = self.read()
        stored.check_succession(self.before, after)
        stored.check(after)
        self.before = after
        self.check_agreement()

    def check_agreement(self) -> None:
        reference = self.reference
        assert {home["_id"] for home in self.before.homes} == set(reference.posted)
        for one in OWNERS:
            page = self.before.pages.get(one)
            if page is None:
                assert one not in reference.at
                continue
            assert page["at"] == reference.at[one]
            lots = {lot["expires_at"]: int(lot["amount"]) for lot in page["lots"]}
            assert lots == +reference.lots[account_of(one, POINTS)]
            for item in page["balances"]:
                asset = Asset(item["asset"])
                held = self.held(account_of(one, asset))
                assert item["posted"] == reference.balances[account_of(one, asset)] + held
                assert (item["held"], item["debt"]) == (held, -reference.balances[debt_of(one, asset)])
            holds = {f"hold:{hold['id']}": hold for hold in page["holds"]}
            payers = {hold: split_account(posting.from_account) for hold, (posting, _) in reference.holds.items()}
            assert set(holds) == {hold for hold, payer in payers.items() if payer.owner == one}
            for name, hold in holds.items():
                assert hold["expires_at"] == reference.holds[name][1]
                kept = {lot["expires_at"]: int(lot["amount"]) for lot in hold["lots"]} or {NEVER: int(hold["amount"])}
                assert kept == +reference.lots[name]

    def held(self, one: AccountId) -> int:
        mine = [hold for hold, (posting, _) in self.reference.holds.items() if posting.from_account == one]
        return sum(self.reference.lots[hold].total() for hold in mine)

    def teardown(self) -> None:
        audit = self.real.run(factories.replay(self.real.services))
        assert audit.findings == []
        assert audit.transactions == len(self.reference.posted)
