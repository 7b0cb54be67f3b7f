"""Principals, citizens, partners and bindings as immutable values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from backend.kernel.errors import Text
from backend.kernel.ids import CitizenId, shard_of

if TYPE_CHECKING:
    from datetime import datetime

    from backend.kernel.ids import ShardNumber

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
NAME_RULE = Text("1–64 个字母、数字、点、横线或下划线", "1–64 letters, digits, dots, dashes and underscores")


class PrincipalKind(StrEnum):
    """What sort of principal a token speaks for."""

    CITIZEN = "citizen"
    MERCHANT = "merchant"
    PARTNER = "partner"
    ENTERPRISE = "enterprise"
    STAFF = "staff"


class StaffRole(StrEnum):
    """What a member of staff may do."""

    ADMIN = "admin"
    REVIEWER = "reviewer"
    VERIFIER = "verifier"
    FINANCE = "finance"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: kind, id, for staff the roles, and until when the token that says so is valid."""

    kind: PrincipalKind
    id: str
    staff_roles: frozenset[StaffRole] = field(default_factory=frozenset)
    expires_at: datetime | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """Name the principal in records: ``kind:id``."""
        return f"{self.kind}:{self.id}"

    @property
    def is_admin(self) -> bool:
        """Whether this is staff with the administrator's role."""
        return self.kind is PrincipalKind.STAFF and StaffRole.ADMIN in self.staff_roles

    @property
    def citizen(self) -> CitizenId | None:
        """The citizen this principal is."""
        return CitizenId(self.id) if self.kind is PrincipalKind.CITIZEN else None


@dataclass(frozen=True, slots=True)
class Citizen:
    """A person with a carbon account."""

    id: CitizenId
    display_name: str
    district: str | None
    created_at: datetime

    @property
    def shard(self) -> ShardNumber:
        """The shard that converts this citizen's actions."""
        return shard_of(self.id)


@dataclass(frozen=True, slots=True)
class Partner:
    """A provider of data and the sources that are its own."""

    id: str
    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExternalId:
    """A citizen's card or user number in the world of one source."""

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class Binding:
    """The citizen an external id stands for; ``hash`` is the keyed hash of source and number."""

    hash: str
    source: str
    citizen: CitizenId


@dataclass(frozen=True, slots=True)
class Family:
    """Citizens (at most eight) who may give points to one another, in the order in which they joined."""

    id: str
    members: tuple[Citizen, ...]


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code that lets one citizen join a family, once, before ``expires_at``."""

    code: str
    expires_at: datetime
