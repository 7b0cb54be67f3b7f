"""The domain's enums, registered as GraphQL enums before any type names them: types import their enums from here."""

from __future__ import annotations

import strawberry

from backend.actions.backtesting.model import State as BacktestState
from backend.actions.model import Decision, DoubtCode, Reason, Status
from backend.actions.restatements import Stage as RestatementStage
from backend.identity.model import PrincipalKind
from backend.kernel.units import Unit
from backend.ledger.model import TransactionKind
from backend.rewards.merchants.model import Cycle, MemberRole, MerchantStage, MerchantStep
from backend.rewards.offers.model import Bearer, OfferCategory, OfferKind, OfferStage, StockKind
from backend.rewards.settlement.model import LineKind, StatementKind, StatementStage
from backend.rewards.vouchers.model import DisputeStage, VoucherStatus
from backend.rewards.webhooks.model import DeliveryStage, DisabledReason, EndpointStage, EventType, Fault
from backend.rules.drafts import Stage, Step, Subject
from backend.rules.formula import BaselineMethod
from backend.rules.model import Audience, Category, Confidence, EvidenceTier, Measure, Period, Scope
from backend.rules.wording import Family

strawberry.enum(Unit, description="Base unit of a quantity.")
strawberry.enum(EvidenceTier, description="Who recorded the act: typed by hand, a device, an operator.")
strawberry.enum(Period, description="Local day, ISO week, month or year of the programme.")
strawberry.enum(Measure, description="What a cap counts.")
strawberry.enum(Category, description="Where an app shows a kind.")
strawberry.enum(Scope, name="CapScope", description="Whose counter a cap draws on: each citizen's own, or one of all.")
strawberry.enum(Confidence, description="How well a factor is sourced for the place where it is used.")
strawberry.enum(Audience, name="CampaignAudience", description="Which acts of a citizen a campaign rewards.")
strawberry.enum(Family, name="FormulaFamily", description="Families of formulas.")
strawberry.enum(BaselineMethod, description="What a household's consumption is compared with.")
strawberry.enum(Stage, name="RuleStage", description="How far a draft has come.")
strawberry.enum(Subject, name="RuleSubject", description="What a draft is of.")
strawberry.enum(Step, name="RuleStep", description="What was done to a draft; SHIP: published with the software.")
strawberry.enum(BacktestState, name="BacktestState", description="How far a back-test is.")
strawberry.enum(PrincipalKind, description="Sorts of principals.")
strawberry.enum(TransactionKind, description="Why amounts moved.")
strawberry.enum(Decision, name="ReviewDecision", description="What a reviewer decides.")
strawberry.enum(RestatementStage, name="RestatementStage", description="How far a restatement has come.")
strawberry.enum(Status, name="ActionStatus", description="Where an action stands.")
strawberry.enum(DoubtCode, description="What is not plausible about an action.")
strawberry.enum(Cycle, name="SettlementCycle", description="How often a merchant is settled, local time.")
strawberry.enum(MemberRole, name="MerchantRole", description="What somebody may do who works at a merchant.")
# The refusals of a wrong stage bear the names MerchantStage and OfferStage.
strawberry.enum(MerchantStage, name="MerchantState", description="How a merchant stands with the programme.")
strawberry.enum(MerchantStep, description="What was done to a merchant or one of its offers.")
strawberry.enum(OfferCategory, description="Where an app shows an offer.")
strawberry.enum(OfferKind, description="What a redemption gives.")
strawberry.enum(OfferStage, name="OfferState", description="How far an offer has come.")
strawberry.enum(StockKind, description="Whether units are bounded: not, altogether, or anew every local day.")
strawberry.enum(Bearer, name="CostBearer", description="Who bears the cost of an offer.")
strawberry.enum(VoucherStatus, description="Where a voucher stands.")
strawberry.enum(DisputeStage, description="What became of a complaint.")
strawberry.enum(EventType, name="WebhookEvent", description="What merchants' systems are told of.")
strawberry.enum(EndpointStage, name="WebhookEndpointStage", description="Whether an endpoint is called.")
strawberry.enum(DisabledReason, name="WebhookDisabledReason", description="Who or what disabled an endpoint.")
strawberry.enum(DeliveryStage, name="WebhookDeliveryStage", description="Where a delivery stands.")
strawberry.enum(Fault, name="WebhookFault", description="Why a try to deliver brought no answer.")
strawberry.enum(StatementKind, description="Whether a statement is its period's own, or corrects another.")
strawberry.enum(StatementStage, description="How far a merchant's statement has come.")
strawberry.enum(LineKind, name="SettlementLineKind", description="What a line of a merchant's statement is about.")
strawberry.enum(Reason, name="ActionReason", description="Why an action earned nothing, or waits for a person.")

__all__ = [
    "Audience",
    "BacktestState",
    "BaselineMethod",
    "Bearer",
    "Category",
    "Confidence",
    "Cycle",
    "Decision",
    "DeliveryStage",
    "DisabledReason",
    "DisputeStage",
    "DoubtCode",
    "EndpointStage",
    "EventType",
    "EvidenceTier",
    "Family",
    "Fault",
    "LineKind",
    "Measure",
    "MemberRole",
    "MerchantStage",
    "MerchantStep",
    "OfferCategory",
    "OfferKind",
    "OfferStage",
    "Period",
    "PrincipalKind",
    "Reason",
    "RestatementStage",
    "Scope",
    "Stage",
    "StatementKind",
    "StatementStage",
    "Status",
    "Step",
    "StockKind",
    "Subject",
    "TransactionKind",
    "Unit",
    "VoucherStatus",
]
