"""The auditor: replays the whole book at one instant and names the first places where it does not add up."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backend.kernel.tally import Suspects, Tally
from backend.ledger import rules
from backend.ledger.errors import InsufficientFundsError
from backend.ledger.model import (
    PROGRAMME,
    PROGRAMME_ACCOUNTS,
    AccountId,
    Asset,
    OwnerId,
    Page,
    Posting,
    Transaction,
    TransactionKind,
    is_guarded,
    split_account,
)
from backend.ledger.store import stream_pages, stream_transactions, transaction_documents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from backend.mongo.client import Document, Snapshot

MAX_FINDINGS = 100
PROGRESS_STEP = 5_000


@dataclass
class Audit:
    """What an audit counted and what it found wrong (the first hundred findings)."""

    transactions: int = 0
    postings: int = 0
    pages: int = 0
    actions: int = 0
    balances: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything adds up."""
        return not self.findings

    def report(self, place: str, problem: str) -> None:
        """Note a difference."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"{place}: {problem}")


async def audit_ledger(snapshot: Snapshot, on_progress: Callable[[int], None] | None = None) -> Audit:
    """Replay every transaction of the snapshot against every page, in constant memory.

    Checks: each document is what its key and postings demand; owners' sequences have no gap; each balance is the sum of
    its postings and never negative; every copy agrees with its home; per asset, all accounts sum to zero.
    """
    audit = Audit()
    copies = Tally()
    pages = stream_pages(snapshot)
    stored = await anext(pages, None)
    replayed: Page | None = None
    async for document in stream_transactions(snapshot):
        owner = OwnerId(document["owner"])
        if replayed is None or replayed.owner != owner:
            stored = await _close_page(audit, replayed, stored, pages)
            replayed = Page(owner, 0, {})
        replayed = _replay(audit, document, replayed, copies)
        if on_progress and audit.transactions % PROGRESS_STEP == 0:
            on_progress(audit.transactions)
    stored = await _close_page(audit, replayed, stored, pages)
    while stored is not None:
        audit.report(f"page {stored.owner}", "no transaction explains it")
        stored = await anext(pages, None)
    if copies.unequal():
        await _name_odd_copies(audit, snapshot, copies.unequal())
    _check_conservation(audit)
    return audit


def _replay(audit: Audit, document: Document, page: Page, copies: Tally) -> Page:
    """The owner's page after the document, having compared the document with what the replay gives."""
    place = f"transaction {document['_id']}"
    try:
        transaction = _transaction(document)
        rules.check(transaction)
        turned, entries = rules.apply(transaction, _payers(transaction, page))
    except (InsufficientFundsError, ValueError, KeyError, TypeError, AttributeError) as error:
        audit.report(place, str(error) or "is malformed")
        return page
    mine = [entry for entry in entries if entry.owner == page.owner]
    if is_guarded(page.owner) and not mine:
        audit.report(place, f"stands on the page of {page.owner}, whom it does not touch")
        return page
    expected = transaction_documents(transaction, mine, document["at"])[0]
    if document["copy_of"] is not None:
        expected = {**expected, "_id": f"{transaction.id}@{page.owner}", "copy_of": transaction.id}
    for name, value in expected.items():
        if document.get(name) != value:
            audit.report(place, f"{name} is {document.get(name)}, the replay gives {value}")
    for entry, times in copy_entries(document, [entry.owner for entry in entries]):
        copies.add(entry, times)
    if document["copy_of"] is None:
        audit.transactions += 1
        for posting in transaction.postings:
            audit.postings += 1
            audit.balances[_counter(posting.from_account)] -= posting.amount
            audit.balances[_counter(posting.to_account)] += posting.amount
    return turned.get(page.owner, page)


def _payers(transaction: Transaction, page: Page) -> dict[OwnerId, Page]:
    """The page under replay, and other owners with just enough to pay: whether they could is decided on their page."""
    pages = {
        owner: Page(owner, 0, {asset: max(0, -change) for asset, change in changes.items()})
        for owner, changes in rules.guarded_changes(transaction).items()
    }
    return {**pages, page.owner: page}


def copy_entries(document: Document, owners: list[OwnerId]) -> list[tuple[str, int]]:
    """What a home document demands of its copies (+1 each), or what a copy delivers (-1)."""
    if document["copy_of"] is not None:
        return [(f"{document['copy_of']}@{document['owner']} {document['payload']}", -1)]
    return [(f"{document['_id']}@{owner} {document['payload']}", 1) for owner in owners if owner != document["owner"]]


async def _name_odd_copies(audit: Audit, snapshot: Snapshot, buckets: frozenset[int]) -> None:
    suspects = Suspects(buckets)
    async for document in stream_transactions(snapshot):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            owners = list(rules.guarded_changes(_transaction(document)))
            for entry, times in copy_entries(document, owners):
                suspects.add(entry, times)
    for entry, lead in suspects.differences():
        audit.report(f"transaction {entry.split()[0]}", "is missing" if lead > 0 else "copies a transaction unlike it")


async def _close_page(
    audit: Audit, replayed: Page | None, stored: Page | None, pages: AsyncIterator[Page]
) -> Page | None:
    """Compare the finished replay with the stored page of that owner; both arrive in the order of owners."""
    if replayed is None or not is_guarded(replayed.owner):
        return stored
    while stored is not None and stored.owner < replayed.owner:
        audit.report(f"page {stored.owner}", "no transaction explains it")
        stored = await anext(pages, None)
    if stored is None or stored.owner != replayed.owner:
        audit.report(f"page {replayed.owner}", "is missing though transactions touch it")
        return stored
    audit.pages += 1
    if replayed != stored:
        audit.report(
            f"page {stored.owner}",
            f"holds {dict(stored.balances)} after {stored.version} transactions, "
            f"the replay gives {dict(replayed.balances)} after {replayed.version}",
        )
    return await anext(pages, None)


def _counter(account: AccountId) -> str:
    """Programme accounts one by one; everybody else's together, by kind of owner and asset."""
    owner, asset = split_account(account)
    return str(account) if owner == PROGRAMME else f"{owner.partition(':')[0]}:*:{asset}"


def _transaction(document: Mapping[str, object]) -> Transaction:
    postings, cause = document["postings"], document["cause"]
    if not isinstance(postings, list) or not isinstance(cause, dict):
        raise TypeError("postings or cause are malformed")
    return Transaction(
        key=str(document["key"]),
        kind=TransactionKind(str(document["kind"])),
        postings=tuple(
            Posting(
                from_account=AccountId(item["from"]),
                to_account=AccountId(item["to"]),
                asset=Asset(item["asset"]),
                amount=int(item["amount"]),
            )
            for item in postings
        ),
        cause=cause,
    )


def _check_conservation(audit: Audit) -> None:
    totals: Counter[str] = Counter()
    for counter, balance in audit.balances.items():
        totals[PROGRAMME_ACCOUNTS.get(AccountId(counter)) or counter.split(":", 2)[2]] += balance
    for asset, total in totals.items():
        if total:
            audit.report(f"asset {asset}", f"all accounts together hold {total} instead of 0")
