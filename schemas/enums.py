"""The domain's enums, registered as GraphQL enums before any type names them: types import their enums from here."""

from __future__ import annotations

import strawberry

from backend.actions.backtesting.model import State as BacktestState
from backend.actions.model import Decision, DoubtCode, Reason, Status
from backend.actions.restatements import Stage as RestatementStage
from backend.identity.model import PrincipalKind
from backend.kernel.units import Unit
from backend.ledger.model import TransactionKind
from backend.market.benefits.model import RoundStage as BenefitRoundStage
from backend.market.exchange.book import Side, TimeInForce
from backend.market.exchange.candles import Interval as CandleInterval
from backend.market.exchange.model import CommandKind, CommandOutcome, EndReason, OrderKind, OrderStatus
from backend.market.exchange.model import PhaseKind as MarketPhase
from backend.market.funds.model import DepositStage, EnterpriseStage, EnterpriseStep, PayoutStage
from backend.market.neutrality.model import NeutralStage, TravelMode
from backend.market.neutrality.model import Per as FactorPer
from backend.market.pooling.model import AdjustmentReason, BatchStage, Benefit, ContributionStage
from backend.market.retirement.model import RetirementPurpose
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
# So do the refusals of a wrong stage of the market.
strawberry.enum(EnterpriseStage, name="EnterpriseState", description="How an enterprise stands with the programme.")
strawberry.enum(EnterpriseStep, description="What staff did with an enterprise.")
strawberry.enum(DepositStage, name="DepositState", description="How far a deposit has come.")
strawberry.enum(PayoutStage, name="PayoutState", description="How far a payout has come.")
strawberry.enum(BenefitRoundStage, name="BenefitRoundStage", description="How far a round of benefit return has come.")
strawberry.enum(Benefit, name="BenefitChoice", description="As what a citizen takes their part of a pool's proceeds.")
strawberry.enum(BatchStage, description="How far a batch has come.")
strawberry.enum(ContributionStage, description="Whether a contribution stands.")
strawberry.enum(AdjustmentReason, name="AdjustmentReason", description="Why a verifier takes something off.")
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
strawberry.enum(TravelMode, description="How people travel; not every mode has a published factor.")
strawberry.enum(FactorPer, name="FactorPer", description="Whether a factor counts passengers' kilometres or vehicles'.")
strawberry.enum(NeutralStage, name="NeutralisationStage", description="How far a neutralisation has come.")
strawberry.enum(RetirementPurpose, description="What for credits are used up.")
strawberry.enum(Side, name="OrderSide", description="Whether an order buys or sells.")
strawberry.enum(TimeInForce, description="How long an order waits for what it did not get at once.")
strawberry.enum(OrderKind, description="Whether an order names its worst price or takes what the band allows.")
strawberry.enum(OrderStatus, description="Where an order stands.")
strawberry.enum(EndReason, name="OrderEndReason", description="Why what was left of an order was given up.")
strawberry.enum(CommandKind, name="OrderCommandKind", description="What may be asked of an order.")
strawberry.enum(CommandOutcome, name="OrderCommandOutcome", description="What became of a request on an order.")
strawberry.enum(MarketPhase, name="MarketPhase", description="What the market in an instrument does.")
strawberry.enum(CandleInterval, name="CandleInterval", description="How long a candle lasts.")
strawberry.enum(Reason, name="ActionReason", description="Why an action earned nothing, or waits for a person.")

__all__ = [
    "AdjustmentReason",
    "Audience",
    "BacktestState",
    "BaselineMethod",
    "BatchStage",
    "Bearer",
    "Benefit",
    "BenefitRoundStage",
    "CandleInterval",
    "Category",
    "CommandKind",
    "CommandOutcome",
    "Confidence",
    "ContributionStage",
    "Cycle",
    "Decision",
    "DeliveryStage",
    "DepositStage",
    "DisabledReason",
    "DisputeStage",
    "DoubtCode",
    "EndReason",
    "EndpointStage",
    "EnterpriseStage",
    "EnterpriseStep",
    "EventType",
    "EvidenceTier",
    "FactorPer",
    "Family",
    "Fault",
    "LineKind",
    "MarketPhase",
    "Measure",
    "MemberRole",
    "MerchantStage",
    "MerchantStep",
    "NeutralStage",
    "OfferCategory",
    "OfferKind",
    "OfferStage",
    "OrderKind",
    "OrderStatus",
    "PayoutStage",
    "Period",
    "PrincipalKind",
    "Reason",
    "RestatementStage",
    "RetirementPurpose",
    "Scope",
    "Side",
    "Stage",
    "StatementKind",
    "StatementStage",
    "Status",
    "Step",
    "StockKind",
    "Subject",
    "TimeInForce",
    "TransactionKind",
    "TravelMode",
    "Unit",
    "VoucherStatus",
]
