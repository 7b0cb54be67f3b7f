"""Canonical bytes, and the verifier's word on receipts and days: nothing falsified passes, its place is named."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.kernel import merkle
from backend.ledger.sealing import canonical
from backend.ledger.sealing.chain import block_problems, leaf_problems
from backend.ledger.sealing.forms import MalformedError
from backend.ledger.sealing.model import Day
from backend.ledger.sealing.receipts import Check, find_date, verify, verify_day
from tests.unit.sealed import (
    BEGIN,
    DAY,
    DOCUMENTS,
    FIRST,
    FULL,
    KEY,
    KEY_NAME,
    LEAVES,
    MALFORMED,
    OTHER_KEY,
    RECEIPT,
    SECOND,
    THIRD,
    TODAY,
    TRADE,
    TRADED,
    another,
    changed,
    public_hex,
    publish,
    receipt_of,
    scalars,
    seal,
    sign_day,
    text,
)

SEED = 20_261_121


def failed(receipt: object, day: object = None) -> list[Check]:
    return [finding.check for finding in verify(text(receipt), None if day is None else text(day)).failures]


EVERY_PLACE = [path for path, _ in scalars(RECEIPT)]
EVERY_DAY_PLACE = [path for path, _ in scalars(DAY)]


def test_the_leafs_bytes_are_these() -> None:
    assert canonical.leaf_entry(FULL).decode() == (
        "tanhui-transaction-1\n"
        '{"at":1795199400123,"cause":{"action":"act_7","note":"公交\\t\\"一\\"次\\\\","rule":"R-BUS1"},'
        '"corrects":"tx_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",'
        '"draws":[{"final":true,"id":"tx_cccccccccccccccccccccccccccccccc","owner":"citizen:alice"},'
        '{"final":false,"id":"tx_dddddddddddddddddddddddddddddddd","owner":"enterprise:firm"}],'
        '"expires_at":1795285800123,"final":false,'
        '"hold":{"id":"tx_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","owner":"citizen:alice"},'
        '"id":"tx_00000000000000000000000000000007","key":"action:act_7","kind":"POST",'
        '"lots":[{"account":"citizen:alice:points","amount":5,"expires_at":1795372200123}],"opens":1859212800000,'
        '"postings":[{"amount":40,"asset":"points","from":"citizen:alice:points",'
        '"lots":[{"amount":40,"expires_at":1795458600123}],"to":"merchant:shop:points"}]}'
    )
    assert canonical.leaf_digest(FULL) == merkle.leaf_hash(canonical.leaf_entry(FULL))


def test_the_headers_bytes_are_these() -> None:
    assert canonical.header_bytes(FIRST.header).decode() == (
        f'tanhui-block-1\n{{"height":1,"key":"56475aa75463474c","previous":"{"0" * 64}","programme":"zhenjiang",'
        f'"root":"{FIRST.header.root}","sealed_at":1795199400123,"size":1,"version":1}}'
    )
    assert canonical.block_hash(FIRST.header).hex() == FIRST.hash == SECOND.header.previous


def naive_lots(lots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**lot, "expires_at": lot["expires_at"].replace(tzinfo=None)} for lot in lots]


def test_where_a_transaction_is_kept_is_no_part_of_its_leaf() -> None:
    elsewhere = {**FULL, "owner": "x", "sequence": None, "copy_of": "y", "lines": [], "payload": ""}
    assert canonical.leaf_digest(elsewhere) == canonical.leaf_digest(FULL)
    naive = {name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in FULL.items()}
    naive["lots"] = naive_lots(FULL["lots"])
    naive["postings"] = [{**posting, "lots": naive_lots(posting["lots"])} for posting in FULL["postings"]]
    assert canonical.leaf_digest(naive, canonical.NAIVE_EPOCH) == canonical.leaf_digest(FULL)


def test_the_bytes_of_a_trade_are_these() -> None:
    assert canonical.leaf_entry(TRADE).decode() == (
        "tanhui-transaction-1\n"
        '{"at":1795199400123,'
        '"cause":{"credit":"credit:zhenjiang-2026-001","serials":"1-400,901-1500","trade":"1"},'
        '"draws":[{"final":true,"id":"tx_11111111111111111111111111111111","owner":"citizen:alice"},'
        '{"final":false,"id":"tx_22222222222222222222222222222222","owner":"enterprise:firm"}],'
        '"id":"tx_00000000000000000000000000000006","key":"trade:zhenjiang-2026-001:1","kind":"TRADE",'
        '"opens":1859212800000,'
        '"postings":[{"amount":1000000,"asset":"credit:zhenjiang-2026-001",'
        '"from":"citizen:alice:credit:zhenjiang-2026-001","to":"enterprise:firm:credit:zhenjiang-2026-001"},'
        '{"amount":6,"asset":"cny","from":"enterprise:firm:cny","to":"citizen:alice:cny"},'
        '{"amount":1,"asset":"cny","from":"citizen:alice:cny","to":"programme:fees"}]}'
    )
    without = {name: value for name, value in TRADE.items() if name != "draws"}
    in_another_order = {**TRADE, "draws": TRADE["draws"][::-1]}
    leaves = [canonical.leaf_digest(one) for one in (TRADE, without, in_another_order, {**TRADE, "draws": []})]
    assert len(set(leaves)) == 4


KEPT_APART = {"owner", "sequence", "copy_of", "payload", "lines"}


@pytest.mark.parametrize("path", [path for path, _ in scalars(FULL) if path[0] not in KEPT_APART], ids=str)
def test_everything_else_is(path: tuple[Any, ...]) -> None:
    value = dict(scalars(FULL))[path]
    other = value + timedelta(milliseconds=1) if isinstance(value, datetime) else another(value)
    assert canonical.leaf_digest(changed(FULL, path, other)) != canonical.leaf_digest(FULL)
    inside = changed(FULL, (*path[:-1], "more"), 1) if isinstance(path[-1], str) and len(path) > 1 else None
    assert inside is None or canonical.leaf_digest(inside) != canonical.leaf_digest(FULL)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {name: value for name, value in FULL.items() if name != "opens"},
        {**FULL, "at": 5},
        {**FULL, "at": BEGIN.replace(tzinfo=None)},
        {**FULL, "cause": {"when": BEGIN}},
        {**FULL, "postings": [{"amount": 2**64}]},
        {**FULL, "lots": [{}]},
        {**FULL, "lots": 5},
        {**FULL, "postings": [{"lots": 5}]},
        {**FULL, "postings": [5]},
        {**FULL, "postings": None},
        {**FULL, "draws": b"bytes"},
        {**FULL, "key": b"bytes"},
        {**FULL, "key": "\ud800"},
    ],
)
def test_what_is_no_transaction_has_no_leaf(document: dict[str, Any]) -> None:
    with pytest.raises(canonical.NotCanonicalError):
        canonical.leaf_digest(document)


texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


@given(values)
def test_canonical_bytes_are_those_of_the_standard_library(value: object) -> None:
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert canonical.canonical_bytes(value) == plain


@pytest.mark.parametrize("index", range(8))
def test_a_receipt_holds_by_itself_and_in_its_day(index: int) -> None:
    receipt = receipt_of(index)
    verdict = verify(text(receipt))
    assert (verdict.holds, verdict.transaction, verdict.height) == (True, DOCUMENTS[index]["_id"], 2)
    assert verdict.is_final is None
    published = verify(text(receipt), text(DAY))
    assert [finding.check for finding in published.findings] == list(Check)
    assert (published.holds, published.is_final) == (True, True)
    running = verify(text(receipt), text(publish([FIRST, SECOND], is_final=False)))
    assert (running.holds, running.is_final) == (True, False)


@pytest.mark.parametrize("path", [path for path, _ in scalars(TRADED["transaction"])], ids=str)
def test_a_trades_receipt_changed_anywhere_is_of_no_leaf(path: tuple[Any, ...]) -> None:
    forged = changed(TRADED, ("transaction", *path), another(dict(scalars(TRADED["transaction"]))[path]))
    assert failed(forged, DAY)[:1] == [Check.RECEIPT_FORM if path == ("kind",) else Check.LEAF]
    assert failed(TRADED, DAY) == []


@pytest.mark.parametrize("path", EVERY_PLACE, ids=str)
def test_a_receipt_changed_anywhere_fails_and_names_what(path: tuple[Any, ...]) -> None:
    forged = changed(RECEIPT, path, another(dict(scalars(RECEIPT))[path]))
    expected = {
        ("version",): [Check.RECEIPT_FORM],
        ("block", "version"): [Check.RECEIPT_FORM],
        ("transaction", "final"): [Check.RECEIPT_FORM],
        ("transaction", "kind"): [Check.RECEIPT_FORM],
        ("block", "root"): [Check.LEAF, Check.SIGNATURE],
        ("block", "size"): [Check.LEAF, Check.SIGNATURE],
        ("block", "key"): [Check.KEY, Check.SIGNATURE],
        ("signature",): [Check.SIGNATURE],
        ("public_key",): [Check.KEY, Check.SIGNATURE],
    }
    by_room = {"transaction": [Check.LEAF], "proof": [Check.LEAF], "block": [Check.SIGNATURE]}
    assert failed(forged) == expected.get(path, by_room.get(path[0]))
    assert failed(forged, DAY)[: len(failed(forged))] == failed(forged)


def test_a_receipt_with_any_byte_changed_fails() -> None:
    chance = random.Random(SEED)
    whole = text(RECEIPT)
    for place in range(len(whole)):
        forged = bytearray(whole)
        forged[place] ^= 1 << chance.randrange(8)
        assert not verify(bytes(forged), text(DAY)).holds, (SEED, place)
    for place in range(0, len(whole), 7):
        assert not verify(whole[:place]).holds
        assert not verify(whole[:place] + whole[place + 1 :]).holds or whole[place : place + 1] == b" "


@pytest.mark.parametrize("path", EVERY_DAY_PLACE, ids=str)
def test_a_day_changed_anywhere_fails_and_names_the_block(path: tuple[Any, ...]) -> None:
    forged = changed(DAY, path, another(dict(scalars(DAY))[path]))
    verdict = verify(text(RECEIPT), text(forged))
    places = " ".join(finding.place for finding in verdict.failures)
    assert not verdict.holds
    assert not verify_day(text(forged)).holds
    if path[0] == "blocks" and path[-1] != "version":
        assert f"blocks[{path[1]}] (height {forged['blocks'][path[1]]['header']['height']})" in places


def test_blocks_deleted_inserted_or_reordered_are_named() -> None:
    blocks = DAY["blocks"]
    for forged, place in (
        ([blocks[0], blocks[2]], "blocks[1] (height 3) does not follow height 1"),
        ([blocks[1], blocks[0], blocks[2]], "blocks[1] (height 1) does not follow height 2"),
        ([blocks[0], blocks[0], *blocks[1:]], "blocks[1] (height 1) does not follow height 1"),
        (blocks[1:], "root is not that of blocks"),
        (blocks[:-1], "root is not that of blocks"),
        ([], "no block 2 on 2026-11-21"),
    ):
        verdict = verify(text(RECEIPT), text({**DAY, "blocks": forged}))
        assert place in {finding.place for finding in verdict.failures}
        # Whoever holds the key may sign that anew; the chain still tells, and the receipt where its block is gone.
        again = verify(text(RECEIPT), text(sign_day({**DAY, "blocks": forged})))
        assert place in {finding.place for finding in again.failures}


def test_a_block_made_again_under_the_same_key_is_told_from_the_published_one() -> None:
    remade = seal([*DOCUMENTS[:7], {**FULL, "kind": "VOID"}], FIRST)
    day = publish([FIRST, remade, seal([], remade)])
    [finding] = verify(text(RECEIPT), text(day)).failures
    assert finding.check is Check.BLOCK_PUBLISHED
    assert finding.place == "block 2 was published with another root"
    moved = copy.deepcopy(DAY)
    moved["blocks"][1]["signature"] = moved["blocks"][0]["signature"]
    assert verify(text(RECEIPT), text(sign_day(moved))).failures[-1].place == (
        "block 2 was published with another signature"
    )


def test_a_forgers_own_key_is_not_published() -> None:
    forged = seal(DOCUMENTS, FIRST, OTHER_KEY)
    receipt = receipt_of(3, forged)
    assert verify(text(receipt)).holds
    assert failed(receipt, DAY) == [Check.KEY_PUBLISHED, Check.BLOCK_PUBLISHED]
    # Nor does it help to call the key by the name of the published one.
    named = changed(receipt, ("block", "key"), KEY_NAME)
    assert failed(named, DAY) == [Check.KEY, Check.SIGNATURE, Check.KEY_PUBLISHED, Check.BLOCK_PUBLISHED]
    misnamed = changed(DAY, ("keys", KEY_NAME), public_hex(OTHER_KEY))
    assert failed(RECEIPT, sign_day(misnamed, OTHER_KEY)) == [Check.DAY_KEYS, Check.KEY_PUBLISHED]
    unlisted = {**DAY, "key": "0" * 16}
    assert verify_day(text(unlisted)).failures[0].place == "key is not among keys"


def test_keys_may_change_within_a_day() -> None:
    second = seal(DOCUMENTS, FIRST, OTHER_KEY)
    day = publish([FIRST, second], OTHER_KEY)
    assert len(day["keys"]) == 2
    assert verify(text(receipt_of(0, second)), text(day)).holds
    assert Check.DAY_CHAIN in failed(receipt_of(0, second), sign_day({**day, "keys": {KEY_NAME: public_hex(KEY)}}))


def test_another_days_document_does_not_have_the_block() -> None:
    verdict = verify(text(RECEIPT), text(publish([THIRD])))
    assert [finding.place for finding in verdict.failures] == ["no block 2 on 2026-11-21"]


@pytest.mark.parametrize(("given_text", "place"), MALFORMED, ids=[place[:40] for _, place in MALFORMED])
def test_what_is_no_receipt_is_said_to_be_none(given_text: bytes, place: str) -> None:
    [finding] = verify(given_text, given_text).findings
    assert (finding.check, finding.holds, finding.place) == (Check.RECEIPT_FORM, False, place)
    in_day = verify(text(RECEIPT), given_text).failures
    assert [finding.check for finding in in_day] == [Check.DAY_FORM]
    [alone] = verify_day(given_text).findings
    assert alone == in_day[0]


@given(values, st.integers(0, len(EVERY_PLACE) - 1))
def test_any_value_anywhere_fails_without_an_exception(value: object, number: int) -> None:
    path = EVERY_PLACE[number]
    forged = changed(RECEIPT, path, value)
    assert verify(text(forged), text(DAY)).holds is (forged == RECEIPT and type(value) is type(_at(RECEIPT, path)))


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    return dict(scalars(document))[path]


def test_the_date_of_a_block_is_found_in_the_list_of_days() -> None:
    spans = [(0, 1, 3), (2, 4, 4)]
    days = [
        Day(TODAY + timedelta(days=after), is_final=False, first=first, last=last, root="", key=KEY_NAME, signature="")
        for after, first, last in spans
    ]
    listing = canonical.canonical_bytes(canonical.days_object("zhenjiang", days, {KEY_NAME: public_hex(KEY)}))
    dates = [find_date(listing, height) for height in range(6)]
    assert dates == [None, "2026-11-21", "2026-11-21", "2026-11-21", "2026-11-23", None]
    with pytest.raises(MalformedError, match=r"days\.keys is missing"):
        find_date(b'{"version":1,"programme":"x","days":[]}', 1)


def test_stored_blocks_and_leaves_are_checked_by_themselves_and_against_the_one_before() -> None:
    assert list(block_problems(FIRST, None)) == list(block_problems(SECOND, FIRST)) == []
    ids = [bytes.fromhex(document["_id"][3:]) for document in DOCUMENTS]
    assert list(leaf_problems(SECOND, ids, LEAVES)) == []
    assert list(leaf_problems(SECOND, ids[:-1], LEAVES)) == ["7 transactions and 256 bytes of leaves for a size of 8"]
    assert list(leaf_problems(SECOND, ids[::-1], LEAVES)) == ["its transactions are not in the order of their ids"]
    assert list(leaf_problems(SECOND, ids, LEAVES[::-1])) == ["the root of its leaves is not its root"]
    assert "it names another previous block" in list(block_problems(THIRD, FIRST))
    assert list(block_problems(replace(SECOND, hash="0" * 64), FIRST)) == ["its hash is not that of its header"]
    later = replace(SECOND.header, sealed_at=BEGIN)
    assert list(block_problems(replace(SECOND, header=later), FIRST)) == [
        "its hash is not that of its header",
        "its signature does not hold",
    ]
