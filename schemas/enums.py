"""The domain's enums, registered as GraphQL enums before any type names them: types import their enums from here."""

from __future__ import annotations

import strawberry

from backend.actions.model import Reason, Status
from backend.identity.model import PrincipalKind
from backend.kernel.units import Unit
from backend.ledger.model import TransactionKind
from backend.rules.model import Category, EvidenceTier, Measure, Period

strawberry.enum(Unit, description="Base unit of a quantity.")
strawberry.enum(EvidenceTier, description="Who recorded the act: typed by hand, a device, an operator.")
strawberry.enum(Period, description="Local day, ISO week, month or year of the programme.")
strawberry.enum(Measure, description="What a cap counts.")
strawberry.enum(Category, description="Where an app shows a kind.")
strawberry.enum(PrincipalKind, description="Sorts of principals.")
strawberry.enum(TransactionKind, description="Why amounts moved.")
strawberry.enum(Status, name="ActionStatus", description="Where an action stands.")
strawberry.enum(Reason, name="ActionReason", description="Why an action earned nothing, or waits for a person.")

__all__ = [
    "Category",
    "EvidenceTier",
    "Measure",
    "Period",
    "PrincipalKind",
    "Reason",
    "Status",
    "TransactionKind",
    "Unit",
]
