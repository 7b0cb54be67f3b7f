"""Receipts and blocks as clients see them: what a citizen keeps to prove a transaction without us."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import strawberry

from backend.identity.model import Principal, PrincipalKind
from backend.kernel.ids import TransactionId
from backend.ledger.model import OwnerId
from backend.ledger.sealing.canonical import canonical_bytes, receipt_object
from backend.ledger.sealing.model import Block, Receipt
from schemas.context import Info
from schemas.view import view

# Principals that own accounts; partners own none.
OWNERS = frozenset({PrincipalKind.CITIZEN, PrincipalKind.MERCHANT, PrincipalKind.ENTERPRISE})


@view(of=Block, name="Block")
class BlockType:
    """Sealed transactions under one Merkle root, chained to the block before; digests, keys and signatures are hex."""

    hash: str
    signature: str
    public_key: str

    @strawberry.field
    @staticmethod
    def height(parent: strawberry.Parent[Block]) -> int:
        """Its number; the first block is 1."""
        return parent.header.height

    @strawberry.field
    @staticmethod
    def previous(parent: strawberry.Parent[Block]) -> str:
        """Hash of the block before; 64 zeros for the first."""
        return parent.header.previous

    @strawberry.field
    @staticmethod
    def size(parent: strawberry.Parent[Block]) -> int:
        """How many transactions it seals."""
        return parent.header.size

    @strawberry.field
    @staticmethod
    def root(parent: strawberry.Parent[Block]) -> str:
        """Root of the Merkle tree (RFC 9162) over its transactions."""
        return parent.header.root

    @strawberry.field
    @staticmethod
    def sealed_at(parent: strawberry.Parent[Block]) -> datetime:
        """When it was made."""
        return parent.header.sealed_at

    @strawberry.field
    @staticmethod
    def key_id(parent: strawberry.Parent[Block]) -> str:
        """Name of the key it is signed with."""
        return parent.header.key

    @strawberry.field
    @staticmethod
    def day(parent: strawberry.Parent[Block]) -> str:
        """The local date under which it is published: `/.well-known/tanhui/roots/<day>.json`."""
        return parent.day.isoformat()


@view(of=Receipt, name="Receipt")
class ReceiptType:
    """The proof that a transaction is in a block; `path` holds the siblings on the way to the root, lowest first."""

    index: int
    path: list[str]

    @strawberry.field
    @staticmethod
    def transaction_id(parent: strawberry.Parent[Receipt]) -> str:
        """Id of the transaction."""
        return parent.transaction

    @strawberry.field(graphql_type=BlockType)
    @staticmethod
    def block(parent: strawberry.Parent[Receipt]) -> Block:
        """The block that seals it."""
        return parent.block

    @strawberry.field
    @staticmethod
    def document(parent: strawberry.Parent[Receipt]) -> str:
        """The receipt as JSON text, to be kept as a file and verified offline."""
        return canonical_bytes(receipt_object(parent)).decode()


def _sight(principal: Principal) -> Callable[[OwnerId], bool] | None:
    """Whose accounts the principal may see; None stands for everybody's."""
    if principal.staff_roles:
        return None
    own = OwnerId(str(principal)) if principal.kind in OWNERS else None
    return lambda owner: owner == own


@strawberry.type
class SealingQuery:
    """Queries on what is sealed."""

    @strawberry.field(graphql_type=ReceiptType | None)
    async def receipt(self, info: Info, transaction_id: strawberry.ID) -> Receipt | None:
        """The receipt of a transaction of one's own, some minute after it happened; null before, and for others'."""
        principal = info.context.require_principal()
        return await info.context.services.sealing.find_receipt(TransactionId(transaction_id), _sight(principal))

    @strawberry.field(graphql_type=BlockType | None)
    async def block(self, info: Info, height: int) -> Block | None:
        """The block of that height, for anybody."""
        return await info.context.services.sealing.find_block(height)
