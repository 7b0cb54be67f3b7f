"""The auditor's quick way: it reads what it has learned, agrees with the rules, and never takes a changed document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.ledger import rules
from backend.ledger.audit.earnings import ID_BYTES, Earning
from backend.ledger.audit.forms import Form, UnknownTypeError, places
from backend.ledger.audit.tab import Tab
from backend.ledger.documents import transaction_documents
from backend.ledger.model import MINTS, POINTS, QUANTIFIED, RECOGNISED, Page, Posting, Terms, Transaction
from backend.ledger.model import TransactionKind as Kind
from backend.ledger.sealing.canonical import leaf_digest
from backend.mongo.batches import decode, encode
from tests.factories import account, owner, transfer

AT = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
ALICE = owner("alice")
AMOUNTS = st.integers(1, 2**40)


def earning(number: int, amounts: dict[str, int], cause: str = "metro.ride") -> Transaction:
    return Transaction(
        key=f"action:act_{number:032x}",
        kind=Kind.EARN,
        postings=tuple(
            Posting(from_account=MINTS[asset], to_account=account("alice", asset), asset=asset, amount=amount)
            for asset, amount in amounts.items()
        ),
        cause={"action": f"act_{number:032x}", "rule": cause},
    )


def posted(transaction: Transaction, page: Page, hours: int = 0) -> tuple[bytes, Page]:
    """The document's bytes and the page after it."""
    terms = Terms(AT + timedelta(hours=hours), AT + timedelta(days=700))
    applied = rules.apply(transaction, {ALICE: page}, terms)
    [document] = transaction_documents(transaction, applied, terms)
    return encode(document), applied.pages[ALICE]


def earn(known: Earning, raw: bytes, tab: Tab) -> bytes | None:
    """What the quick way says of the document."""
    values = known.form.read(raw, 0) if len(raw) == known.form.size else None
    return None if values is None else known.earn(values, tab)


@given(
    first=st.dictionaries(st.sampled_from([POINTS, QUANTIFIED, RECOGNISED]), AMOUNTS, min_size=1),
    later=st.lists(st.lists(AMOUNTS, min_size=3, max_size=3), max_size=5),
)
def test_the_quick_way_goes_where_the_rules_go(first: dict[str, int], later: list[list[int]]) -> None:
    raw, page = posted(earning(0, first), Page(ALICE))
    known = Earning(raw, decode(raw))
    tab = Tab(ALICE.encode())
    assert earn(known, raw, tab) is not None
    for number, amounts in enumerate(later, 1):
        transaction = earning(number, dict(zip(first, amounts, strict=False)))
        raw, page = posted(transaction, page, number)
        assert earn(known, raw, tab) == leaf_digest(decode(raw)) + bytes.fromhex(transaction.id[3:])
    assert tab.page() == page
    assert len(list(known.sum_up())) == known.count == len(later) + 1
    assert known.totals == {asset: page.balance(asset) for asset in first}


@given(data=st.data())
def test_no_changed_byte_is_taken_for_the_document(data: st.DataObject) -> None:
    first, page = posted(earning(0, {QUANTIFIED: 5_000, POINTS: 5}), Page(ALICE))
    known = Earning(first, decode(first))
    second, _ = posted(earning(1, {QUANTIFIED: 7_000, POINTS: 7}), page, 1)
    tab, untouched = Tab(ALICE.encode()), Tab(ALICE.encode())
    for each in (tab, untouched):
        assert earn(known, first, each) is not None
    place = data.draw(st.integers(0, len(second) - 1))
    forged = bytearray(second)
    forged[place] ^= data.draw(st.integers(1, 255))
    sealed = earn(known, bytes(forged), tab)
    if sealed is None:
        assert tab.page() == untouched.page()
    else:
        # Only the time can differ and still be possible; its leaf is another.
        good = earn(known, second, untouched)
        assert good is not None
        assert sealed[:-ID_BYTES] != good[:-ID_BYTES]
        assert forged.replace(bytes(forged), second) == second


@pytest.mark.parametrize("name", ["al ice", 'a"b', "a\\b", "é", "a:b"])
def test_a_name_that_json_writes_otherwise_goes_the_thorough_way(name: str) -> None:
    assert Tab(f"citizen:{name}".encode()).kind == ""
    assert Tab(b"citizen:alice").kind == "citizen"


@pytest.mark.parametrize("cause", ['metro"ride', "metro\\ride", "metro\nride", "métro.rid"])
def test_a_cause_that_json_writes_otherwise_goes_the_thorough_way(cause: str) -> None:
    first, page = posted(earning(0, {POINTS: 5}), Page(ALICE))
    known = Earning(first, decode(first))
    tab = Tab(ALICE.encode())
    assert earn(known, first, tab) is not None
    second, _ = posted(earning(1, {POINTS: 5}, cause), page)
    assert len(second) == len(first)
    assert earn(known, second, tab) is None


def test_what_is_no_earning_of_one_owner_is_not_learned() -> None:
    _, page = posted(earning(0, {POINTS: 50}), Page(ALICE))
    terms = Terms(AT, AT + timedelta(days=30))
    document = transaction_documents(transfer(), rules.apply(transfer(), {ALICE: page}, terms), terms)[0]
    with pytest.raises(UnknownTypeError):
        Earning(encode(document), document)


@given(
    document=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=5) | st.booleans() | st.none()),
    other=st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=5) | st.booleans() | st.none()),
)
def test_a_form_reads_what_differs_only_in_its_values(document: dict[str, object], other: dict[str, object]) -> None:
    assume(not any("\0" in str(value) for value in (*document.values(), *other.values())))
    raw, foreign = encode(document), encode(other)
    form = Form(raw, lambda _: True)
    texts = [value.encode() for value in document.values() if isinstance(value, str)]
    assert form.read(raw, 0) == tuple(texts)
    assert [raw[place.start : place.start + place.size] for place in places(raw)] == texts
    alike = [(name, len(v.encode()) if isinstance(v, str) else v) for name, v in document.items()] == [
        (name, len(v.encode()) if isinstance(v, str) else v) for name, v in other.items()
    ]
    if len(raw) == len(foreign):
        assert (form.read(foreign, 0) is not None) == alike
