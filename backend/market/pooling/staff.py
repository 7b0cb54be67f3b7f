"""Who of the staff may do what with batches, and how a change takes its key with its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.identity.errors import ForbiddenError
from backend.identity.model import PrincipalKind, StaffRole
from backend.identity.rules import require_idempotency_key
from backend.kernel.crypto import payload_hash
from backend.kernel.errors import Text
from backend.market.pooling.errors import UnknownBatchError, WrongBatchStageError
from backend.mongo.idempotency import Use

if TYPE_CHECKING:
    from backend.identity.model import Principal
    from backend.market.pooling.model import Batch, BatchStage
    from backend.market.pooling.store import PoolingWrites

MANAGING = Text("管理减排量批次", "managing batches")
VERIFYING = Text("核证减排量批次", "verifying batches")
READING = Text("查看减排量批次", "reading batches")
EXPORTING = Text("导出核证材料", "exporting evidence")


def require_role(principal: Principal, what: Text, *roles: StaffRole) -> None:
    """Let pass staff with one of the roles; without roles any staff.

    Raises:
        ForbiddenError: anybody else.
    """
    if principal.kind is not PrincipalKind.STAFF or (roles and principal.staff_roles.isdisjoint(roles)):
        raise ForbiddenError(what)


def use_of(principal: Principal, operation: str, key: str, *payload: object) -> Use:
    """One use of the key.

    Raises:
        InvalidInputError: it cannot be one.
    """
    require_idempotency_key(key)
    return Use(str(principal), operation, key, payload_hash(list(payload)))


async def get_batch(writes: PoolingWrites, code: str) -> Batch:
    """The batch.

    Raises:
        UnknownBatchError: there is none.
    """
    found = await writes.find_batch(code)
    if found is None:
        raise UnknownBatchError
    return found


def require_stage(batch: Batch, *stages: BatchStage) -> None:
    """Refuse a batch that stands otherwise.

    Raises:
        WrongBatchStageError: it does.
    """
    if batch.stage not in stages:
        raise WrongBatchStageError(batch.stage.value)
