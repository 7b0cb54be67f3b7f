"""Where points and grams came from and where they went, as far as who asks may know it."""

from __future__ import annotations

import dataclasses

import strawberry

from backend.identity.model import Principal
from backend.kernel.errors import Text
from backend.kernel.ids import TransactionId
from backend.ledger.errors import TraceTooLargeError
from backend.ledger.model import Asset, OwnerId, is_guarded
from backend.ledger.provenance import Fate, Origin, Trace, Use, joined
from schemas.context import Info
from schemas.enums import TransactionKind
from schemas.ledger import AssetEnum
from schemas.scalars import BigInt
from schemas.view import view

# A spend of more acts than this is traced by the command line.
MAX_ROWS = 1_000
ROWS = Text("行", "rows")


@view(of=Origin, name="ProvenanceOrigin")
class OriginType:
    """A transaction that brought some of the amount: with an act where one caused it, else a gift, a prize, a grant."""

    kind: TransactionKind
    amount: BigInt

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Origin]) -> str:
        """Id of the transaction."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def action_id(parent: strawberry.Parent[Origin]) -> str | None:
        """The action that caused it, where one did."""
        return parent.action


@view(of=Use, name="ProvenanceUse")
class UseType:
    """A transaction that took some of the amount; less than zero where it gave some back."""

    kind: TransactionKind
    amount: BigInt

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Use]) -> str:
        """Id of the transaction."""
        return parent.transaction

    @strawberry.field
    @staticmethod
    def to(parent: strawberry.Parent[Use]) -> str:
        """The account whose it is then; somebody else's without their id: `citizen:*:points`."""
        return parent.to_account


@strawberry.type(name="Provenance")
class ProvenanceType:
    """One transaction's amounts: origins sum to what it moved, uses and unspent to what it brought."""

    origins: list[Origin] = strawberry.field(
        graphql_type=list[OriginType], description="Where what it moved came from, first taken first; at most 1,000."
    )
    uses: list[Use] = strawberry.field(
        graphql_type=list[UseType], description="What became of what it brought, oldest first; at most 1,000."
    )
    unspent: BigInt = strawberry.field(description="What is still there of what it brought, held or free.")


def _reader(principal: Principal) -> OwnerId | None:
    """The owner who may see their own part only; None for staff, who see everybody's."""
    return None if principal.staff_roles else OwnerId(str(principal))


def _shown(trace: Trace, fate: Fate) -> ProvenanceType:
    origins = joined(dataclasses.replace(one, through=()) for part in trace.parts for one in part.origins)
    uses = joined(use for credit in fate.credits for use in credit.uses)
    if max(len(origins), len(uses)) > MAX_ROWS:
        raise TraceTooLargeError(MAX_ROWS, ROWS)
    return ProvenanceType(
        origins=list(origins), uses=list(uses), unspent=BigInt(sum(credit.unspent for credit in fate.credits))
    )


@strawberry.type
class ProvenanceQuery:
    """Queries on where amounts came from and went."""

    @strawberry.field(graphql_type=ProvenanceType | None)
    async def provenance(
        self, info: Info, transaction_id: strawberry.ID, asset: AssetEnum = AssetEnum.POINTS
    ) -> ProvenanceType | None:
        """Where a transaction's amounts came from and went, as far as one's own; null for others' transactions.

        What other citizens gave is told as the gift received, nothing of theirs before it or after.
        """
        reader = _reader(info.context.require_principal())
        if reader is not None and not is_guarded(reader):
            return None
        found = await info.context.services.provenance.trace(
            TransactionId(transaction_id), asset=Asset(asset.value), reader=reader
        )
        return _shown(*found) if found else None
