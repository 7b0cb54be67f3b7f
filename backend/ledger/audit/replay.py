"""Replays the book owner by owner in the order of their sequences; what it needs is one position at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backend.kernel.crypto import payload_hash
from backend.ledger import rules, shape
from backend.ledger.audit.corrected import correction_problem
from backend.ledger.audit.earnings import WITNESS_ENTRY, Earning
from backend.ledger.audit.findings import unlike
from backend.ledger.audit.forms import Known, UnknownTypeError
from backend.ledger.audit.owing import owing_problems, unfollowed
from backend.ledger.audit.pages import Pages, named
from backend.ledger.audit.store import stream_placed, stream_unplaced
from backend.ledger.audit.tab import Tab
from backend.ledger.documents import taken_lots, transaction_documents, transaction_from_document
from backend.ledger.model import (
    DEBT,
    POINTS,
    PROGRAMME,
    AccountId,
    OwnerId,
    Terms,
    Transaction,
    TransactionKind,
    is_guarded,
    split_account,
)
from backend.ledger.sealing.canonical import leaf_digest, milliseconds
from backend.mongo.batches import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backend.ledger.audit.findings import Audit, Side
    from backend.ledger.audit.tab import Undecoded
    from backend.ledger.model import Applied
    from backend.mongo.batches import Spans
    from backend.mongo.client import Document, Snapshot

MAX_OF_OWNER = 8
EXPLAINED = frozenset({TransactionKind.EARN, TransactionKind.RESTATE})
OWN_FIELDS = frozenset({"_id", "owner", "sequence", "copy_of", "lines"})


@dataclass(frozen=True)
class Sides:
    """Where the replay's entries meet their other sides: copies, blocks with what waits, and credited actions."""

    copies: Side
    seals: Side
    earnings: Side


class Replay:
    """One pass over the book."""

    def __init__(self, snapshot: Snapshot, audit: Audit, sides: Sides) -> None:
        self._snapshot = snapshot
        self._audit = audit
        self._sides = sides
        self._pages = Pages(snapshot, audit)
        self._known: Known[Earning] = Known()
        self._tab: Tab | None = None
        self._corrections: list[Document] = []
        # What guarded owners have and owe together by their pages, to be held against the sum of all postings.
        self._held: Counter[str] = Counter()

    async def run(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Replay everything; ``on_progress`` hears the number of documents so far."""
        await self._pages.start()
        count = 0
        async for batch, spans in stream_placed(self._snapshot):
            count += await self._work(batch, spans)
            await self._verify_corrections()
            if on_progress:
                on_progress(count)
        await self._close()
        await self._pages.end()
        async for batch, spans in stream_unplaced(self._snapshot):
            for start, size in spans:
                self._unplaced((batch, start, size))
        self._sum_up()

    async def _work(self, batch: memoryview, spans: Spans) -> int:
        """Go on with a batch; how many documents it has. Most are of a known form: this is the audit's inner loop."""
        by_size = self._known.by_size
        count = 0
        sealed = []
        for start, size in spans:
            count += 1
            for earning in by_size.get(size, ()):
                values = earning.form.read(batch, start)
                if values is not None:
                    break
            else:
                await self._thorough((batch, start, size))
                continue
            tab = self._tab
            if tab is None or values[earning.owner] != tab.raw:
                tab = await self._turn(values[earning.owner])
            entry = earning.earn(values, tab)
            if entry is None:
                await self._thorough((batch, start, size))
                continue
            tab.last = (batch, start, size)
            sealed.append(entry)
        self._sides.seals.add_all(sealed)
        for earning in self._known:
            self._sides.earnings.add_all(earning.sum_up(), -1)
        return count

    async def _turn(self, owner: bytes) -> Tab:
        """Close the owner's page and open the next one."""
        await self._close()
        self._tab = Tab(owner)
        return self._tab

    async def _close(self) -> None:
        tab = self._tab
        if tab is None or not is_guarded(tab.owner):
            return
        for lent, problem in unfollowed(tab):
            self._report(tab, f"transaction {lent.id}", problem)
        if tab.differences > MAX_OF_OWNER:
            rest = tab.differences - MAX_OF_OWNER
            self._audit.report(f"page {tab.owner}", f"{rest:,} more differences in its transactions")
        await self._pages.close(tab)
        kind = tab.owner.partition(":")[0]
        for asset, (posted, _, debt) in tab.rows.items():
            self._held[f"{kind}:*:{asset}"] += posted
            self._held[f"{kind}:*:{DEBT}{asset}"] -= debt

    def _report(self, tab: Tab, place: str, problem: str) -> None:
        """Note a difference; one broken page is not to hide all others."""
        tab.differences += 1
        if tab.differences <= MAX_OF_OWNER:
            self._audit.report(place, problem)

    async def _thorough(self, undecoded: Undecoded) -> None:
        """The thorough way: decode, replay by the rules, encode again, compare."""
        batch, start, size = undecoded
        raw, place = bytes(batch[start : start + size]), f"transaction {named(undecoded)}"
        try:
            document = decode(raw)
            owner = document["owner"].encode()
        except Exception as error:  # noqa: BLE001 - whatever a forged document breaks is a finding, never a traceback
            self._audit.report(place, f"cannot be read: {error!r}")
            return
        tab = self._tab
        if tab is None or tab.raw != owner:
            tab = await self._turn(owner)
        difference = tab.differences
        try:
            transaction = transaction_from_document(document)
            for problem in self._replay(tab, transaction, document, raw):
                self._report(tab, place, problem)
            self._testify(transaction, document)
        except Exception as error:  # noqa: BLE001 - likewise
            self._report(tab, place, _worded(error))
        if isinstance(document.get("sequence"), int) and tab.version != document["sequence"]:
            # A gap is one finding, not one for every transaction behind it.
            tab.version = int(document["sequence"])
        tab.last = undecoded
        if difference == tab.differences:
            self._learn(raw, document)

    def _learn(self, raw: bytes, document: Document) -> None:
        try:
            earning = Earning(raw, document)
        except UnknownTypeError:
            return
        self._known.add(len(raw), earning)

    def _replay(self, tab: Tab, transaction: Transaction, document: Document, raw: bytes) -> Iterator[str]:
        """Turn the tab by the transaction; in what the document is not what that gives."""
        owners, terms = _checked(transaction, document)
        if is_guarded(tab.owner) and tab.owner not in owners:
            yield f"stands on the page of {tab.owner}, whom it does not touch"
            return
        if milliseconds(terms.at) < tab.at:
            yield "happened before the transaction before it"
        page = tab.page()
        for other, problem in owing_problems(tab, page, transaction, terms.at):
            self._report(tab, f"transaction {other.id}", problem)
        if not owners:
            yield from unlike(document, raw, _expected(transaction, rules.apply(transaction, {}, terms), terms, None))
            return
        applied = rules.apply_to(page, transaction, terms, taken_lots(document))
        copied = tab.owner if document["copy_of"] is not None else None
        yield from unlike(document, raw, _expected(transaction, applied, terms, copied))
        tab.turn(applied.pages[tab.owner])

    def _unplaced(self, undecoded: Undecoded) -> None:
        """A transaction outside all sequences touches no guarded owner."""
        batch, start, size = undecoded
        raw, place = bytes(batch[start : start + size]), f"transaction {named(undecoded)}"
        try:
            document = decode(raw)
            transaction = transaction_from_document(document)
            owners, terms = _checked(transaction, document)
            if owners:
                self._audit.report(place, f"has no place in the sequence of {document['owner']}")
            else:
                expected = _expected(transaction, rules.apply(transaction, {}, terms), terms, None)
                for problem in unlike(document, raw, expected):
                    self._audit.report(place, problem)
            self._testify(transaction, document)
        except Exception as error:  # noqa: BLE001 - likewise
            self._audit.report(place, _worded(error))

    def _testify(self, transaction: Transaction, document: Document) -> None:
        """Count the document, and tell the other sides what it says."""
        for entry, times in _copy_entries(document, transaction.owners):
            self._sides.copies.add(entry, times)
        if document["copy_of"] is not None:
            return
        if transaction.corrects is not None:
            self._corrections.append(document)
        audit = self._audit
        audit.transactions += 1
        audit.postings += len(transaction.postings)
        if transaction.kind is not TransactionKind.HOLD:
            for posting in transaction.postings:
                audit.balances[counter(posting.from_account)] -= posting.amount
                audit.balances[counter(posting.to_account)] += posting.amount
        self._sides.seals.add(leaf_digest(document) + id_bytes(document["_id"]))
        if _is_of_action(transaction):
            self._sides.earnings.add(
                earning_entry(transaction.id, transaction.key, document["at"], transaction.payload), -1
            )

    async def _verify_corrections(self) -> None:
        """Look at each correction of the batch beside what it corrects: few, and each needs queries of its own."""
        for document in self._corrections:
            try:
                problem = await correction_problem(self._snapshot, document)
            except Exception as error:  # noqa: BLE001 - likewise; what the book refuses is raised as refusal
                problem = _worded(error)
            if problem:
                self._audit.report(f"transaction {document['_id']}", problem)
        self._corrections = []

    def _sum_up(self) -> None:
        """Add up what went the quick way, and hold pages against postings."""
        audit = self._audit
        for earning in self._known:
            audit.transactions += earning.count
            audit.postings += earning.count * len(earning.mints)
            for asset, total in earning.totals.items():
                audit.balances[earning.mints[asset]] -= total
                audit.balances[f"{earning.kind}:*:{asset}"] += total
        for name in sorted({*self._held, *audit.balances}):
            if is_guarded(OwnerId(name)) and self._held[name] != audit.balances[name]:
                audit.report(
                    f"accounts {name}",
                    f"all pages together hold {self._held[name]}, all postings give {audit.balances[name]}",
                )


def _checked(transaction: Transaction, document: Document) -> tuple[tuple[OwnerId, ...], Terms]:
    """The guarded owners and the terms of a transaction that can stand in a book.

    Raises:
        ValueError: it cannot.
    """
    shape.check(transaction)
    at, opens = document["at"], document["opens"]
    if not isinstance(at, datetime) or not isinstance(opens, datetime):
        raise TypeError("its times are none")
    for posting, lots in zip(transaction.postings, taken_lots(document), strict=True):
        payer = split_account(posting.from_account)
        has_lots = is_guarded(payer.owner) and payer.asset == POINTS and not payer.is_debt
        if sum(lot.amount for lot in lots) != (posting.amount if has_lots else 0):
            raise ValueError(f"the lots taken from {posting.from_account} are not its amount")
    return transaction.owners, Terms(at, opens)


def _expected(transaction: Transaction, applied: Applied, terms: Terms, copied: OwnerId | None) -> Document:
    """The document that the book would have written; on the page of ``copied`` a copy."""
    document = transaction_documents(transaction, applied, terms)[0]
    if copied is not None:
        document.update(_id=f"{transaction.id}@{copied}", copy_of=transaction.id)
    return document


def _is_of_action(transaction: Transaction) -> bool:
    """Whether an act must explain it: an earning, a restatement, or the reversal that names its act."""
    kind = transaction.kind
    return kind in EXPLAINED or (kind is TransactionKind.REVERSE and "action" in transaction.cause)


def _copy_entries(document: Document, owners: tuple[OwnerId, ...]) -> Iterator[tuple[bytes, int]]:
    """What a home document demands of its copies (+1 each), or what a copy delivers (-1)."""
    if document["copy_of"] is None and len(owners) == (document["owner"] in owners):
        return
    shared = payload_hash({name: value for name, value in document.items() if name not in OWN_FIELDS})
    if document["copy_of"] is not None:
        yield f"{document['copy_of']}@{document['owner']} {shared}".encode(), -1
        return
    for owner in owners:
        if owner != document["owner"]:
            yield f"{document['_id']}@{owner} {shared}".encode(), 1


def id_bytes(transaction: str) -> bytes:
    """The id as it stands behind its leaf: 16 bytes; those of another form are never equal to one."""
    digits = transaction.removeprefix("tx_")
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return transaction.encode()


def earning_entry(transaction: str, key: str, at: datetime, payload: str) -> bytes:
    """What an earning and the action that it credits must both say."""
    return WITNESS_ENTRY % (transaction.encode(), key.encode(), milliseconds(at), payload.encode())


def counter(account: AccountId) -> str:
    """Programme accounts one by one; everybody else's together, by kind of owner and asset."""
    owner, asset, is_debt = split_account(account)
    return str(account) if owner == PROGRAMME else f"{owner.partition(':')[0]}:*:{DEBT if is_debt else ''}{asset}"


def _worded(error: Exception) -> str:
    return str(error) or repr(error)
