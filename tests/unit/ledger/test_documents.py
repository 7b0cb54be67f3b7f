"""The codec of the book's documents: what is written is what is read, for every kind and every page."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import bson
import pytest
from bson import Int64
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from backend.kernel.ids import shard_of
from backend.ledger.documents import (
    page_from_document,
    page_to_document,
    statement_line,
    taken_lots,
    transaction_documents,
    transaction_from_document,
)
from backend.ledger.model import BREAKAGE, CNY, POINTS, QUANTIFIED, Page, TransactionKind
from tests.factories import (
    account,
    adjustment,
    capture,
    earning,
    holding,
    owner,
    payout,
    posting,
    release,
    restatement,
    reversal,
    settlement,
    shop,
    spending,
    transfer,
)
from tests.trading import CREDIT, FIRM, market_life, order
from tests.unit.ledger.book import DAY, HISTORIES, NOON, Book, midnight, play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.ledger.book import Posted, Step

Kind = TransactionKind
ALICE, BOB = owner("alice"), owner("bob")
SERVER: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
NEXT = midnight(2028, 12, 1)
SOME = hypothesis_settings(max_examples=50)


def stored(document: dict[str, Any]) -> dict[str, Any]:
    """The document as the server gives it back."""
    read: dict[str, Any] = bson.decode(bson.encode(document), SERVER)
    return read


def documents(posted: Posted) -> list[dict[str, Any]]:
    return [stored(document) for document in transaction_documents(posted.transaction, posted.applied, posted.terms)]


def leaves(value: Any) -> Iterator[Any]:
    """Everything in a document that is neither list nor document."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@SOME
@given(steps=HISTORIES)
def test_every_page_is_read_as_it_was_written(steps: list[Step]) -> None:
    for posted in play(steps).journal:
        for page in posted.applied.pages.values():
            document = stored(page_to_document(page))
            assert page_from_document(document) == page
            assert document["due_at"] == page.due_at
            assert document["shard"] == shard_of(page.owner)
            assert not any(type(value) is int or isinstance(value, float) for value in leaves(page_to_document(page)))


@SOME
@given(steps=HISTORIES)
def test_every_transaction_is_read_as_it_was_written_from_home_and_copy(steps: list[Step]) -> None:
    for posted in play(steps).journal:
        transaction, terms, _, applied = posted
        written = documents(posted)
        assert [document["owner"] for document in written] == (list(transaction.owners) or [written[0]["owner"]])
        for number, document in enumerate(written):
            again = transaction_from_document(document)
            assert again == transaction
            assert (again.id, again.payload) == (transaction.id, transaction.payload)
            assert tuple(taken_lots(document)) == applied.taken
            assert (document["at"], document["opens"]) == (terms.at, terms.opens)
            home = f"{transaction.id}@{document['owner']}" if number else transaction.id
            assert (document["_id"], document["copy_of"]) == (home, transaction.id if number else None)
        own = {"_id", "owner", "sequence", "copy_of", "lines"}
        shared = [{name: value for name, value in document.items() if name not in own} for document in written]
        assert all(one == shared[0] for one in shared)


@SOME
@given(steps=HISTORIES)
def test_a_statement_shows_the_lines_as_they_were_made(steps: list[Step]) -> None:
    for posted in play(steps).journal:
        for document, entry in zip(documents(posted), posted.applied.entries, strict=bool(posted.applied.entries)):
            for line in entry.lines:
                row = statement_line(document, line.asset)
                assert row.line == line
                assert (row.sequence, row.transaction, row.kind, row.at, row.corrects) == (
                    entry.sequence,
                    posted.transaction.id,
                    posted.transaction.kind,
                    posted.terms.at,
                    posted.transaction.corrects,
                )


def every_kind() -> Book:
    """A book in which every kind stands."""
    book = Book()
    earned, spent = earning(amount=50), spending(amount=30)
    one, two, three = (holding(f"hold-{number}", amount=4, until=NOON + DAY) for number in range(3))
    for transaction in (
        earned, transfer(), one, two, three, capture(one, amount=3, final=False), release(two), spent,
        reversal(spent, amounts=(5,)), adjustment(3), restatement(earned, -40), earning("again", amount=5),
        settlement(), payout(), *market_life(until=NOON + DAY),
    ):  # fmt: skip
        book.post(transaction)
    book.post(release(three, "lapse", kind=Kind.LAPSE), NOON + DAY)
    lot = book.page("bob").lots[0]
    expired = posting(account("bob"), BREAKAGE, lot.amount)
    book.post(
        type(earned)(key="expire", kind=Kind.EXPIRE, postings=(expired,), lots={account("bob"): (lot,)}),
        lot.expires_at,
    )
    return book


def test_every_kind_survives_the_round_trip() -> None:
    book = every_kind()
    assert {posted.transaction.kind for posted in book.journal} == set(Kind)
    for posted in book.journal:
        for document in documents(posted):
            assert transaction_from_document(document) == posted.transaction


def only(book: Book, kind: Kind) -> dict[str, Any]:
    """The first home document of the kind, without what all kinds have."""
    posted = next(item for item in book.journal if item.transaction.kind is kind)
    [document, *_] = documents(posted)
    common = {
        "_id",
        "owner",
        "sequence",
        "copy_of",
        "key",
        "payload",
        "kind",
        "at",
        "opens",
        "postings",
        "lines",
        "cause",
    }
    assert common <= set(document)
    return {name: value for name, value in document.items() if name not in common}


@pytest.mark.parametrize("kind", Kind)
def test_only_the_kinds_that_have_them_write_particulars(kind: Kind) -> None:
    book = every_kind()
    hold, corrected = holding("hold-0", until=NOON).id, spending().id
    expected: dict[Kind, dict[str, Any]] = {
        Kind.HOLD: {"expires_at": NOON + DAY},
        Kind.POST: {"hold": {"owner": ALICE, "id": hold}, "final": False},
        Kind.VOID: {"hold": {"owner": ALICE, "id": holding("hold-1", until=NOON).id}},
        Kind.LAPSE: {"hold": {"owner": ALICE, "id": holding("hold-2", until=NOON).id}},
        Kind.EXPIRE: {"lots": [{"account": "citizen:bob:points", "expires_at": NEXT, "amount": 10}]},
        Kind.REVERSE: {
            "corrects": corrected,
            "lots": [{"account": "citizen:alice:points", "expires_at": NEXT, "amount": 5}],
        },
        Kind.RESTATE: {
            "corrects": earning().id,
            "lots": [{"account": "citizen:alice:points", "expires_at": NEXT, "amount": 50}],
        },
        Kind.TRADE: {
            "draws": [
                {"owner": ALICE, "id": order("market-sell", ALICE, CREDIT, 1, until=NOON).id, "final": True},
                {"owner": FIRM, "id": order("market-buy", FIRM, CNY, 1, until=NOON).id, "final": True},
            ]
        },
    }
    assert only(book, kind) == expected.get(kind, {})


def test_a_transfer_is_written_whole_on_both_pages() -> None:
    book = Book()
    book.post(earning())
    book.post(transfer())
    home, copy = documents(book.journal[-1])
    lots = [{"expires_at": NEXT, "amount": 10}]
    moved = {"from": account(), "to": account("bob"), "asset": "points", "amount": 10, "lots": lots}
    assert home["postings"] == copy["postings"] == [moved]
    assert (home["sequence"], copy["sequence"]) == (2, 1)
    assert home["lines"] == [
        {"asset": "points", "change": -10, "balance": 90, "held": 0, "debt": 0, "lots": [{**lots[0], "amount": -10}]}
    ]
    assert copy["lines"] == [{"asset": "points", "change": 10, "balance": 10, "held": 0, "debt": 0, "lots": lots}]
    [earned] = documents(book.journal[0])
    assert "lots" not in earned["postings"][0]


def test_what_touches_no_page_stands_under_its_payer() -> None:
    book = Book()
    # A period with more refunds than captures is paid by the programme.
    for key, points, payer in (("one", 5, "merchant:shop"), ("other", -5, "programme")):
        book.post(settlement(key, points=points, fen=45, commission=0))
        [document] = documents(book.journal[-1])
        assert (document["owner"], document["sequence"], document["copy_of"], document["lines"]) == (
            payer,
            None,
            None,
            [],
        )
        assert transaction_from_document(document) == book.journal[-1].transaction


def test_a_page_with_everything_on_it() -> None:
    book = Book()
    hold = holding(amount=4, until=NOON + DAY)
    for transaction in (earning(amount=10), earning("mg", amount=3, asset=QUANTIFIED), spending(amount=5), hold):
        book.post(transaction)
    book.post(reversal(earning(amount=10)))
    document = stored(page_to_document(book.page()))
    lots = [{"expires_at": NEXT, "amount": 4}]
    held = {"id": hold.id, "asset": "points", "to": shop(), "amount": 4, "expires_at": NOON + DAY, "lots": lots}
    assert document == {
        "_id": ALICE,
        "shard": shard_of(ALICE),
        "version": 6,
        "at": NOON,
        "balances": [
            {"asset": "co2e.quantified", "posted": 3, "held": 0, "debt": 0},
            {"asset": "points", "posted": 4, "held": 4, "debt": 9},
        ],
        "lots": [],
        "holds": [held],
        "due_at": NOON + DAY,
    }
    assert page_from_document(document) == book.page()
    empty = stored(page_to_document(Page(BOB, 1, NOON, {QUANTIFIED: 0})))
    assert empty == {
        "_id": BOB,
        "shard": shard_of(BOB),
        "version": 1,
        "at": NOON,
        "balances": [{"asset": QUANTIFIED, "posted": 0, "held": 0, "debt": 0}],
        "lots": [],
        "holds": [],
        "due_at": None,
    }


def test_the_assets_of_a_page_stand_in_order_and_amounts_are_64_bits_wide() -> None:
    page = Page(ALICE, 1, NOON, {QUANTIFIED: 1, POINTS: 2**62}, {QUANTIFIED: 7})
    balances = page_to_document(page)["balances"]
    assert [item["asset"] for item in balances] == [QUANTIFIED, POINTS]
    assert {type(item[name]) for item in balances for name in ("posted", "held", "debt")} == {Int64}
    assert page_from_document(stored(page_to_document(page))) == page
