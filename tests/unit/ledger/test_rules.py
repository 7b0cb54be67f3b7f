"""The book's arithmetic: what is malformed, what is refused, and that nothing is made or lost."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel.ids import CitizenId
from backend.kernel.units import INT64_MAX
from backend.ledger import rules
from backend.ledger.errors import InsufficientFundsError, MalformedTransactionError
from backend.ledger.model import (
    MINTS,
    POINTS,
    PROGRAMME,
    QUANTIFIED,
    RECOGNISED,
    AccountId,
    Asset,
    OwnerId,
    Page,
    Posting,
    Transaction,
    TransactionKind,
    account_of,
    citizen_owner,
    is_guarded,
    split_account,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ALICE, BOB = citizen_owner(CitizenId("alice")), citizen_owner(CitizenId("bob"))
SHOP, FIRM = OwnerId("merchant:shop"), OwnerId("enterprise:firm")
OWNERS = (ALICE, BOB, SHOP, FIRM)
ASSETS = (POINTS, QUANTIFIED, RECOGNISED)


def posting(**changes: Any) -> Posting:
    """Ten points for Alice."""
    given: dict[str, Any] = {
        "from_account": MINTS[POINTS],
        "to_account": account_of(ALICE, POINTS),
        "asset": POINTS,
        "amount": 10,
    }
    return Posting(**{**given, **changes})


def transaction(*postings: Posting, key: str = "key", kind: TransactionKind = TransactionKind.EARN) -> Transaction:
    """These postings, together."""
    return Transaction(key=key, kind=kind, postings=postings)


@st.composite
def movements(draw: st.DrawFn) -> Posting:
    asset = draw(st.sampled_from(ASSETS))
    accounts = [MINTS[asset], *(account_of(owner, asset) for owner in OWNERS)]
    payer, payee = draw(st.lists(st.sampled_from(accounts), min_size=2, max_size=2, unique=True))
    return Posting(from_account=payer, to_account=payee, asset=asset, amount=draw(st.integers(1, 50)))


TRANSACTIONS = st.lists(movements(), min_size=1, max_size=5).map(lambda postings: transaction(*postings))

MALFORMED: Mapping[str, tuple[Any, str]] = {
    "nothing to post": ([], "key: 0 postings"),
    "too many": ([posting()] * 1_001, "key: 1001 postings"),
    "zero": ([posting(amount=0)], "key: amount 0 is not positive"),
    "negative": ([posting(amount=-1)], "key: amount -1 is not positive"),
    "fraction": ([posting(amount=1.0)], "key: amount must be an integer, not float"),
    "truth": ([posting(amount=True)], "key: amount must be an integer, not bool"),
    "more than 64 bits": ([posting(amount=2**63)], f"key: amount does not fit in 64 bits: {2**63}"),
    "unknown owner": (
        [posting(to_account=AccountId("robot:x:points"))],
        "key: no account can be called 'robot:x:points'",
    ),
    "owner without name": (
        [posting(to_account=AccountId("citizen::points"))],
        "key: no account can be called 'citizen::points'",
    ),
    "account without asset": (
        [posting(to_account=AccountId("citizen:x"))],
        "key: no account can be called 'citizen:x'",
    ),
    "unknown programme account": (
        [posting(from_account=AccountId("programme:pocket"))],
        "key: no account can be called 'programme:pocket'",
    ),
    "asset of another account": (
        [posting(asset=QUANTIFIED)],
        "key: co2e.quantified cannot move from programme:issuance to citizen:alice:points",
    ),
    "another mint": (
        [posting(from_account=MINTS[QUANTIFIED])],
        "key: points cannot move from programme:quantification to citizen:alice:points",
    ),
    "to oneself": (
        [posting(from_account=account_of(ALICE, POINTS))],
        "key: citizen:alice:points cannot pay itself",
    ),
    "one of several": ([posting(), posting(amount=0)], "key: amount 0 is not positive"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_breaks_double_entry_is_named(name: str) -> None:
    postings, problem = MALFORMED[name]
    with pytest.raises(MalformedTransactionError) as caught:
        rules.check(transaction(*postings))
    assert str(caught.value) == problem


@pytest.mark.parametrize("mint", MINTS.values())
def test_new_amounts_come_out_of_a_mint_only_as_earnings(mint: AccountId) -> None:
    asset = split_account(mint)[1]
    minted = posting(from_account=mint, to_account=account_of(ALICE, asset), asset=asset)
    rules.check(transaction(minted))
    with pytest.raises(MalformedTransactionError, match=f"key: a TRANSFER cannot take from {mint}"):
        rules.check(transaction(minted, kind=TransactionKind.TRANSFER))


@given(moved=TRANSACTIONS)
def test_every_movement_between_accounts_of_an_asset_is_well_formed(moved: Transaction) -> None:
    rules.check(moved)


@given(history=st.lists(TRANSACTIONS, max_size=25))
def test_nothing_is_made_or_lost_and_nobody_falls_below_zero(history: list[Transaction]) -> None:
    pages: dict[OwnerId, Page] = {}
    elsewhere: Counter[Asset] = Counter()
    for moved in history:
        before = dict(pages)
        try:
            turned, entries = rules.apply(moved, pages)
        except InsufficientFundsError:
            continue
        pages.update(turned)
        for item in moved.postings:
            elsewhere[item.asset] -= _unguarded(item.from_account) * item.amount
            elsewhere[item.asset] += _unguarded(item.to_account) * item.amount
        for entry in entries:
            page = pages[entry.owner]
            assert entry.sequence == page.version == (before[entry.owner].version if entry.owner in before else 0) + 1
            assert all(line.balance == page.balance(line.asset) for line in entry.lines)
        for asset in ASSETS:
            assert sum(page.balance(asset) for page in pages.values()) + elsewhere[asset] == 0
            assert min((page.balance(asset) for page in pages.values()), default=0) >= 0


def _unguarded(account: AccountId) -> int:
    return int(not is_guarded(split_account(account)[0]))


@given(moved=TRANSACTIONS)
def test_only_guarded_owners_get_an_entry_each_once(moved: Transaction) -> None:
    rich = {owner: Page(owner, 3, dict.fromkeys(ASSETS, 10_000)) for owner in OWNERS}
    turned, entries = rules.apply(moved, rich)
    touched = {split_account(account)[0] for item in moved.postings for account in (item.from_account, item.to_account)}
    assert [entry.owner for entry in entries] == list(turned)
    assert set(turned) == {owner for owner in touched if is_guarded(owner)}
    assert PROGRAMME not in turned
    assert SHOP not in turned


def test_a_balance_may_be_spent_to_zero_and_not_below() -> None:
    page = {ALICE: Page(ALICE, 1, {POINTS: 10})}
    spend = posting(from_account=account_of(ALICE, POINTS), to_account=account_of(BOB, POINTS))
    turned, _ = rules.apply(transaction(spend), page)
    assert turned[ALICE].balance(POINTS) == 0
    with pytest.raises(InsufficientFundsError) as caught:
        rules.apply(transaction(spend), turned)
    assert (caught.value.account, caught.value.needed, caught.value.available) == ("citizen:alice:points", 10, 0)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes, as a task queue keeps them
    assert str(again) == "INSUFFICIENT_FUNDS: insufficient balance: 10 needed, 0 available"


@given(moved=TRANSACTIONS, held=st.integers(0, 60))
def test_a_refusal_tells_the_shortfall_and_leaves_the_pages_alone(moved: Transaction, held: int) -> None:
    pages = {owner: Page(owner, 1, dict.fromkeys(ASSETS, held)) for owner in (ALICE, BOB, FIRM)}
    before = {owner: dict(page.balances) for owner, page in pages.items()}
    poor = {
        (owner, asset): -change
        for owner, changes in rules.guarded_changes(moved).items()
        for asset, change in changes.items()
        if held + change < 0
    }
    if poor:
        with pytest.raises(InsufficientFundsError) as caught:
            rules.apply(moved, pages)
        assert poor[split_account(AccountId(caught.value.account))] == caught.value.needed > caught.value.available
        assert caught.value.available == held
    else:
        rules.apply(moved, pages)
    assert {owner: dict(page.balances) for owner, page in pages.items()} == before


def test_what_comes_in_with_a_transaction_may_go_out_with_it() -> None:
    earn, spend = posting(), posting(from_account=account_of(ALICE, POINTS), to_account=account_of(BOB, POINTS))
    turned, entries = rules.apply(transaction(earn, spend), {})
    assert {owner: page.balance(POINTS) for owner, page in turned.items()} == {ALICE: 0, BOB: 10}
    assert [[(line.change, line.balance) for line in entry.lines] for entry in entries] == [[(0, 0)], [(10, 10)]]


def test_a_balance_beyond_64_bits_is_an_error_and_not_a_wrap() -> None:
    page = {ALICE: Page(ALICE, 1, {POINTS: INT64_MAX})}
    with pytest.raises(OverflowError, match="balance does not fit in 64 bits"):
        rules.apply(transaction(posting(amount=1)), page)


def test_the_id_follows_from_the_key_and_the_payload_from_everything_else() -> None:
    first = transaction(posting(), key="one")
    assert transaction(posting(amount=11), key="one").id == first.id
    assert transaction(posting(amount=11), key="one").payload != first.payload
    assert transaction(posting(), key="two").id != first.id
    assert transaction(posting(), key="two").payload == first.payload
    assert Transaction(key="one", kind=TransactionKind.TRANSFER, postings=(posting(),)).payload != first.payload
