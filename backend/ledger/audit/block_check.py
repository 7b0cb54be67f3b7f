"""Audits one block and what its transactions touch: its seal, the sealed documents, owners' lines and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.kernel.clock import local_date
from backend.kernel.merkle import HASH_BYTES
from backend.ledger import shape
from backend.ledger.audit import follow_store
from backend.ledger.audit.findings import shown, unlike
from backend.ledger.audit.lines import Standing, line_problems, standing_of
from backend.ledger.audit.replay import OWN_FIELDS, counter
from backend.ledger.audit.seals import leaves_of
from backend.ledger.documents import page_from_document, page_to_document, transaction_from_document
from backend.ledger.lots import total
from backend.ledger.model import POINTS, TransactionKind, is_guarded
from backend.ledger.sealing.canonical import leaf_digest
from backend.ledger.sealing.chain import block_problems, leaf_problems
from backend.ledger.sealing.model import KeyId
from backend.ledger.sealing.store import block_from_document
from backend.mongo.batches import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

    from backend.ledger.audit.follow_store import Followed
    from backend.ledger.model import Asset, Transaction
    from backend.mongo.client import Document, Snapshot

MAX_GAP = 100
Problem = tuple[str, str]
Sequence = list["Document"]


class BlockCheck:
    """The checks of one block; what it counts is added to ``followed``."""

    def __init__(self, snapshot: Snapshot, followed: Followed, zone: ZoneInfo) -> None:
        self._snapshot = snapshot
        self._followed = followed
        self._zone = zone
        self._found: list[Problem] = []

    async def check(self, height: int) -> list[Problem]:
        """Audit the block of that height and move on to it: places and what is wrong there."""
        for missing in range(self._followed.height + 1, height):
            self._report(f"block {missing}", "is missing")
        try:
            leaves = await self._check_seal(height)
        except Exception as error:  # noqa: BLE001 - whatever a forged block breaks is a difference, never the end
            self._report(f"block {height}", f"cannot be read: {error!r}")
            leaves = {}
        documents = await self._check_sealed(height, leaves)
        await self._check_owners(documents.values())
        self._followed.height = height
        return self._found

    def _report(self, place: str, problem: str) -> None:
        self._found.append((place, problem))

    async def _check_seal(self, height: int) -> dict[str, bytes]:
        """The block's header and leaves; returns the leaf of each transaction."""
        place = f"block {height}"
        stored = await follow_store.find_block(self._snapshot, height)
        earlier = await follow_store.find_block(self._snapshot, height - 1)
        sealed = await follow_store.find_leaves(self._snapshot, height)
        assert stored is not None
        self._followed.hash = str(stored.get("hash"))
        keys = {KeyId(str(key)): public for key, public in await follow_store.list_keys(self._snapshot)}
        transactions, hashes = leaves_of(sealed or {})
        places = range(0, len(hashes), HASH_BYTES)
        leaves = {
            f"tx_{name.hex()}": hashes[at : at + HASH_BYTES] for at, name in zip(places, transactions, strict=False)
        }
        try:
            block = block_from_document(stored, keys)
            problems = [
                *block_problems(block, block_from_document(earlier, keys) if earlier else None),
                *leaf_problems(block, transactions, hashes),
            ]
            if local_date(block.header.sealed_at, self._zone) != block.day:
                problems.append(f"date is {block.day}, it was sealed at {block.header.sealed_at}")
        except Exception as error:  # noqa: BLE001 - likewise; its transactions are looked at all the same
            problems = [str(error) or repr(error)]
        for problem in problems:
            self._report(place, problem)
        return leaves

    async def _check_sealed(self, height: int, leaves: dict[str, bytes]) -> dict[str, Document]:
        """The sealed transactions as they stand in the book; returns those that can be read, copies included."""
        homes = await follow_store.find_transactions(self._snapshot, list(leaves))
        good: dict[str, Document] = {}
        demanded: dict[str, Document] = {}
        for name, leaf in leaves.items():
            document = homes.get(name)
            if document is None:
                self._report(f"transaction {name}", f"is not in the book and stands in block {height}")
                continue
            try:
                transaction = _read(document)
                if leaf_digest(document) != leaf:
                    self._report(f"transaction {name}", f"is not what block {height} sealed")
                demanded |= {f"{name}@{owner}": document for owner in transaction.owners if owner != document["owner"]}
                self._count(transaction)
            except Exception as error:  # noqa: BLE001 - likewise
                self._report(f"transaction {name}", str(error) or repr(error))
            else:
                good[name] = document
        copies = await follow_store.find_transactions(self._snapshot, list(demanded))
        for name, home in demanded.items():
            copy = copies.get(name)
            if copy is None:
                self._report(f"transaction {name}", "is missing")
            elif _shared(copy) != _shared(home):
                self._report(f"transaction {name}", "copies a transaction unlike it")
            else:
                good[name] = copy
        return good

    def _count(self, transaction: Transaction) -> None:
        followed = self._followed
        followed.transactions += 1
        for posting in transaction.postings if transaction.kind is not TransactionKind.HOLD else ():
            followed.balances[counter(posting.from_account)] -= posting.amount
            followed.balances[counter(posting.to_account)] += posting.amount

    async def _check_owners(self, documents: Iterable[Document]) -> None:
        """The lines of every guarded owner of these documents, then their pages."""
        runs: dict[str, list[Document]] = {}
        for document in documents:
            owner, sequence = document["owner"], document["sequence"]
            if isinstance(sequence, int) and is_guarded(owner):
                runs.setdefault(owner, []).append(document)
            elif is_guarded(owner):
                self._report(f"transaction {document['_id']}", f"has no place in the sequence of {owner}")
        for run in runs.values():
            run.sort(key=lambda document: document["sequence"])
        others = await follow_store.find_lines(self._snapshot, [gap for run in runs.values() for gap in _gaps(run)])
        pages = await follow_store.find_pages(self._snapshot, list(runs))
        for owner, run in runs.items():
            try:
                await self._check_run(owner, run, others)
            except Exception as error:  # noqa: BLE001 - likewise
                self._report(f"page {owner}", f"its transactions cannot be followed: {error!r}")
            try:
                self._check_page(owner, pages.get(owner), run[-1])
            except Exception as error:  # noqa: BLE001 - likewise
                self._report(f"page {owner}", f"cannot be read: {error!r}")

    async def _check_run(self, owner: str, run: Sequence, others: dict[tuple[str, int], Document]) -> None:
        """One owner's documents in their sequence, each resting on those before it, of whatever block."""
        before: dict[Asset, Standing] = {}
        reached, latest = 0, None
        for document in run:
            number, place = int(document["sequence"]), f"transaction {document['_id']}"
            for earlier in range(max(reached + 1, number - MAX_GAP), number):
                other = others.get((owner, earlier))
                if other is not None:
                    before |= {line["asset"]: standing_of(line) for line in other["lines"]}
            previous = others.get((owner, number - 1)) if latest is None or reached != number - 1 else latest
            if previous is None and number > 1:
                self._report(f"page {owner}", f"no transaction has number {number - 1}")
            if previous is not None and document["at"] < previous["at"]:
                self._report(place, "happened before the transaction before it")
            for line in document["lines"] if number > 1 else ():
                if line["asset"] not in before:
                    found = await follow_store.find_line(self._snapshot, owner, line["asset"], before=document)
                    before[line["asset"]] = standing_of(found) if found else Standing()
            for problem in line_problems(transaction_from_document(document), document, before):
                self._report(place, problem)
            before |= {line["asset"]: standing_of(line) for line in document["lines"]}
            reached, latest = number, document

    def _check_page(self, owner: str, stored: Document | None, last: Document) -> None:
        """The page by itself, and beside the last of the documents where nothing has happened since."""
        place = f"page {owner}"
        if stored is None:
            self._report(place, "is missing though transactions touch it")
            return
        page = page_from_document(stored)
        for problem in unlike(stored, encode(stored), page_to_document(page)):
            self._report(place, problem.replace("the replay gives", "its parts give"))
        points = total(page.lots) + sum(total(hold.lots) for hold in page.holds)
        if points != page.balance(POINTS):
            self._report(place, f"its lots and held lots are {points} points, its balance is {page.balance(POINTS)}")
        if page.version > last["sequence"]:
            return
        if (page.version, page.at) != (last["sequence"], last["at"]):
            self._report(
                place, f"is of {page.version} at {page.at}, its last transaction of {last['sequence']} at {last['at']}"
            )
        for line in last["lines"]:
            asset = line["asset"]
            standing = Standing(page.balance(asset), page.held(asset), page.debt(asset))
            if standing != standing_of(line):
                self._report(place, f"{asset} is {shown(standing)}, its last line says {shown(standing_of(line))}")


def _gaps(run: Sequence) -> Iterator[tuple[str, int, int]]:
    """Owner, first and last number of what stands before each document of the run and not in it."""
    reached = 0
    for document in run:
        number = int(document["sequence"])
        if number > reached + 1:
            # Where the numbers before are of other blocks, the last of them is what the next one rests on.
            yield document["owner"], max(reached + 1, number - MAX_GAP) if reached else number - 1, number - 1
        reached = number


def _read(document: Document) -> Transaction:
    """The transaction of a home document whose id and payload are its own.

    Raises:
        ValueError: they are not, or no book can hold it.
    """
    transaction = transaction_from_document(document)
    shape.check(transaction)
    given = (document["_id"], document["payload"], document["copy_of"])
    if given != (transaction.id, transaction.payload, None):
        raise ValueError("its id or payload is another than its content gives")
    return transaction


def _shared(document: Document) -> dict[str, object]:
    """What a transaction's document and its copies have in common."""
    return {name: value for name, value in document.items() if name not in OWN_FIELDS}
