"""The quick way of the replay: an earning of one owner from the mints, in a form that is known.

It says yes only where every byte of the document is what the rules demand; on any doubt it says nothing, and the
thorough way decides and words the finding. Pure.
"""

from __future__ import annotations

import re
from binascii import hexlify
from copy import deepcopy
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from backend.kernel.crypto import canonical_json
from backend.kernel.merkle import LEAF_PREFIX
from backend.kernel.units import INT64_MAX
from backend.ledger.audit.forms import Form, Path, UnknownTypeError
from backend.ledger.audit.tab import NOTHING
from backend.ledger.documents import transaction_from_document
from backend.ledger.model import MINTS, POINTS, TransactionKind, account_of
from backend.ledger.sealing.canonical import EPOCH, MILLISECOND, leaf_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backend.ledger.audit.tab import Row, Tab
    from backend.ledger.model import AccountId, Asset
    from backend.mongo.client import Document

FIELDS = frozenset(
    {"_id", "owner", "sequence", "copy_of", "key", "payload", "kind", "at", "opens", "postings", "lines", "cause"}
)
POSTING = frozenset({"from", "to", "asset", "amount"})
HEAD: tuple[Path, ...] = (("_id",), ("owner",), ("sequence",), ("key",), ("payload",), ("at",), ("opens",))
WITNESS: tuple[Path, ...] = (("_id",), ("key",), ("at",), ("payload",))
# Transaction, key, moment in milliseconds and payload: tells a credited act from any other.
WITNESS_ENTRY = b"%b for %b at %d: %b"
LINE = ("change", "balance", "held", "debt")
ID_PREFIX, ID_BYTES = b"tx_", 16
# What JSON would write otherwise than it stands, or what is not ASCII.
SPECIAL = bytes({*range(0x20), *b'"\\', *range(0x7F, 0x100)})
# Stand-ins for values while a template is made: no value that is not replaced looks like them.
FIRST_NUMBER = 10**17
FIRST_MOMENT = 2 * 10**12


class Template:
    """Canonical JSON with gaps for values of a form: ``text % values_of(values)`` is the JSON with these values."""

    __slots__ = ("text", "values_of")

    def __init__(self, text: bytes, stand_ins: Mapping[bytes, int]) -> None:
        """Make it of the JSON of a document that holds stand-ins; ``stand_ins`` are their numbers in the form."""
        pattern = re.compile(b"|".join(map(re.escape, stand_ins)))
        self.values_of = itemgetter(*(stand_ins[found] for found in pattern.findall(text)))
        self.text = pattern.sub(lambda found: b"%b" if found[0][:1] == b"@" else b"%d", text.replace(b"%", b"%%"))


class Earning:
    """A form of earnings, and how one of it changes its owner's position.

    ``count`` and ``totals`` (by asset) tell what was earned in this form, ``mints`` where from; ``owner`` is the number
    of the owner among a document's values.
    """

    __slots__ = (
        "_done",
        "_head",
        "_key_length",
        "_leaf",
        "_lines",
        "_payload",
        "_points",
        "_postings",
        "_texts",
        "_witness",
        "count",
        "form",
        "kind",
        "mints",
        "owner",
        "totals",
    )

    def __init__(self, raw: bytes, document: Document) -> None:
        """Learn the form of a document that the thorough way found to be right.

        Raises:
            UnknownTypeError: it is no such earning.
        """
        if not _is_plain(document):
            raise UnknownTypeError("not an earning of one owner")
        self.form = Form(raw, _is_value)
        index = {path: number for number, path in enumerate(self.form.paths)}
        self.owner = index["owner",]
        self._head = itemgetter(*(index[path] for path in HEAD))
        self._key_length = b"%d\x1f" % len(document["key"].encode())
        assets = [posting["asset"] for posting in document["postings"]]
        numbers = [str(number) for number in range(len(assets))]
        self._postings = tuple(
            (asset, f":{asset}".encode(), index["postings", number, "to"], index["postings", number, "amount"])
            for asset, number in zip(assets, numbers, strict=True)
        )
        self._witness = itemgetter(*(index[path] for path in WITNESS))
        self.kind = document["owner"].partition(":")[0]
        self.mints: dict[Asset, AccountId] = {posting["asset"]: posting["from"] for posting in document["postings"]}
        self.count = 0
        self._points = next((number for asset, *_, number in self._postings if asset == POINTS), None)
        self.totals: dict[Asset, int] = dict.fromkeys(self.mints, 0)
        self._done: list[tuple[Any, ...]] = []
        lines = [index["lines", number, name] for number in numbers for name in LINE]
        lots = [index[path] for path in self.form.paths if path[2:3] == ("lots",)]
        self._lines = itemgetter(*lines, *lots)
        causes = [index[path] for path in self.form.paths if path[0] == "cause"]
        self._texts = itemgetter(index["key",], index["payload",], *causes)
        self._leaf, self._payload = _templates(document, self.form)

    def earn(self, values: tuple[Any, ...], tab: Tab) -> bytes | None:
        """Turn the owner's tab by the earning with these values: its leaf and id, 48 bytes.

        None, and nothing turned, on any doubt.
        """
        name, owner, sequence, key, payload, at, opens = self._head(values)
        texts = b"".join(self._texts(values))
        if (
            sequence != tab.version + 1
            or at < tab.at
            or tab.kind != self.kind
            or tab.lent
            or len(texts.translate(None, SPECIAL)) != len(texts)
        ):
            return None
        expected: list[int] = []
        turned: list[tuple[Asset, Row]] = []
        for asset, tail, to, number in self._postings:
            amount = values[number]
            posted, held, debt = tab.rows.get(asset, NOTHING)
            posted += amount
            if amount <= 0 or values[to] != owner + tail or posted > INT64_MAX:
                return None
            turned.append((asset, (posted, held, debt)))
            expected += (amount, posted, held, debt)
        points = values[self._points] if self._points is not None else 0
        if points:
            expected += (opens, points)
        digest = sha256(self._key_length + key).digest()[:ID_BYTES]
        if (
            self._lines(values) != (*expected,)
            or name != ID_PREFIX + hexlify(digest)
            or payload != hexlify(sha256(self._payload.text % self._payload.values_of(values)).digest())
        ):
            return None
        tab.rows.update(turned)
        tab.version, tab.at, tab.owed = sequence, at, None
        if points:
            tab.lots[opens] = tab.lots.get(opens, 0) + points
        self._done.append(values)
        return sha256(self._leaf.text % self._leaf.values_of(values)).digest() + digest

    def sum_up(self) -> Iterable[bytes]:
        """Add what was earned since the last time to ``count`` and ``totals``; the witness of each earning."""
        done, self._done = self._done, []
        self.count += len(done)
        for asset, *_, number in self._postings:
            self.totals[asset] += sum(map(itemgetter(number), done))
        return (WITNESS_ENTRY % witness for witness in map(self._witness, done))


def _is_plain(document: Document) -> bool:
    """Whether it is an earning of one owner from the mints, each asset once, the points into one lot."""
    postings, lines = document["postings"], document["lines"]
    assets = [posting["asset"] for posting in postings]
    return (
        document["kind"] == TransactionKind.EARN
        and document["copy_of"] is None
        and document.keys() == FIELDS
        and len(set(assets)) == len(assets) == len(lines)
        and all(posting.keys() == POSTING for posting in postings)
        and all(posting["from"] == MINTS.get(posting["asset"]) for posting in postings)
        and all(posting["to"] == account_of(document["owner"], posting["asset"]) for posting in postings)
        and [line["asset"] for line in lines] == assets
        and all(len(line["lots"]) == (line["asset"] == POINTS) for line in lines)
    )


def _is_value(path: Path) -> bool:
    """What may differ within a form: not the kind, nor which assets move out of which mints."""
    return path[0] != "kind" and path[-1] not in ("asset", "from")


def _templates(document: Document, form: Form) -> tuple[Template, Template]:
    """What is hashed for the leaf and for the payload, as the canonical functions write it."""
    marked, stand_ins = deepcopy(document), {}
    for number, path in enumerate(form.paths):
        *way, last = path
        inner: Any = marked
        for step in way:
            inner = inner[int(step) if isinstance(inner, list) else step]
        value = inner[last]
        if isinstance(value, str):
            inner[last] = f"@{number:04}@"
        elif isinstance(value, datetime):
            inner[last] = EPOCH + timedelta(milliseconds=FIRST_MOMENT + number)
        else:
            inner[last] = FIRST_NUMBER + number
        stand_ins[_shown(inner[last])] = number
    transaction = transaction_from_document(marked)
    postings = [[p.from_account, p.to_account, p.asset, p.amount] for p in transaction.postings]
    payload = canonical_json([transaction.kind, transaction.cause, postings, None, True, None])
    leaf = LEAF_PREFIX + leaf_entry(marked)
    return Template(leaf, stand_ins), Template(payload, stand_ins)


def _shown(value: object) -> bytes:
    """The stand-in as JSON writes it."""
    if isinstance(value, datetime):
        return str((value - EPOCH) // MILLISECOND).encode()
    return str(value).encode()
