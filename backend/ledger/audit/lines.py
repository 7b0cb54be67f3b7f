"""Whether a stored transaction's lines follow from the lines before them: what can be said without a replay. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from backend.ledger.model import POINTS, RELEASING, Asset, TransactionKind, account_of, split_account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backend.ledger.model import AccountId, Transaction
    from backend.mongo.client import Document

Kind = TransactionKind


class Standing(NamedTuple):
    """What an owner has, has reserved of it, and owes, of one asset."""

    balance: int = 0
    held: int = 0
    debt: int = 0


def standing_of(line: Mapping[str, Any]) -> Standing:
    """What a stored line says."""
    return Standing(int(line["balance"]), int(line["held"]), int(line["debt"]))


def line_problems(transaction: Transaction, document: Document, before: Mapping[Asset, Standing]) -> Iterator[str]:
    """In what the lines of an owner's document do not follow from its postings and the standing ``before`` it."""
    moved = _moved(transaction, document["owner"])
    assets = [line["asset"] for line in document["lines"]]
    # What a trade or a voiding frees of a hold need not move.
    frees = transaction.kind in RELEASING or any(
        draw.final and draw.hold.owner == document["owner"] for draw in transaction.draws
    )
    if len(set(assets)) != len(assets) or not moved.keys() <= set(assets) or (len(assets) > len(moved) and not frees):
        yield f"lines are of {', '.join(assets)}, its postings are of {', '.join(sorted(moved))}"
        return
    for line in document["lines"]:
        asset, after = line["asset"], standing_of(line)
        change, lent = moved.get(asset, (0, 0))
        earlier = before.get(asset, Standing())
        if line["change"] != change:
            yield f"change of {asset} is {line['change']}, its postings give {change}"
        if after.balance != earlier.balance + change:
            yield f"balance of {asset} is {after.balance}, {earlier.balance} and {change} give another"
        if after.debt != earlier.debt + lent:
            yield f"debt of {asset} is {after.debt}, {earlier.debt} and {lent} give another"
        if not _may_hold(transaction, account_of(document["owner"], asset), earlier.held, after.held):
            yield f"held of {asset} is {after.held} after {earlier.held}, which a {transaction.kind} cannot do"
        if not 0 <= after.held <= after.balance or after.debt < 0:
            yield f"{asset}: {after.balance} with {after.held} held and {after.debt} owed cannot be"
        if asset == POINTS and sum(lot["amount"] for lot in line["lots"]) != change:
            yield f"lots of {asset} do not sum to {change}"


def _moved(transaction: Transaction, owner: str) -> dict[Asset, tuple[int, int]]:
    """By asset what the postings change of the owner's balance and debt."""
    moved: dict[Asset, tuple[int, int]] = {}
    for posting in transaction.postings:
        for account, sign in ((posting.from_account, -1), (posting.to_account, 1)):
            at, asset, is_debt = split_account(account)
            if at != owner or (transaction.kind is Kind.HOLD and sign > 0):
                continue
            amount = 0 if transaction.kind is Kind.HOLD else sign * posting.amount
            change, lent = moved.get(asset, (0, 0))
            # What leaves the account of a debt is owed.
            moved[asset] = (change, lent - amount) if is_debt else (change + amount, lent)
    return moved


def _may_hold(transaction: Transaction, account: AccountId, before: int, after: int) -> bool:
    """Whether the kind can turn the amount that is held of the account into the other."""
    owner = split_account(account).owner
    amount = sum(posting.amount for posting in transaction.postings)
    if transaction.kind is Kind.HOLD:
        return after == before + amount
    drawn = [draw for draw in transaction.draws if draw.hold.owner == owner]
    if drawn:
        paid = sum(posting.amount for posting in transaction.postings if posting.from_account == account)
        # The hold drawn on may be of another asset. A final draw also frees what is left of it.
        return after in (before, before - paid) or (after < before - paid and any(draw.final for draw in drawn))
    if transaction.hold is None or transaction.hold.owner != owner:
        return after == before
    if transaction.kind in RELEASING:
        return after < before
    # The last posting of a hold also frees what is left of it.
    return after <= before - amount if transaction.final else after == before - amount
