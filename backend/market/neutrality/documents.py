"""The neutralisations' collection and the codec of its documents; no queries."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.ledger.model import Asset, OwnerId
from backend.market.neutrality.model import (
    GOING,
    Event,
    Leg,
    Neutralisation,
    NeutralisationId,
    Neutralising,
    NeutralStage,
    TravelMode,
)
from backend.market.retirement.model import Beneficiary, CertificateId
from backend.mongo.collections import (
    AMOUNT,
    COUNTER,
    FLAG,
    MOMENT,
    TEXT,
    Collection,
    Index,
    list_of,
    nullable,
    one_of,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backend.mongo.client import Document

BENEFICIARY = record({"name": TEXT, "name_zh": nullable(TEXT), "credit_code": nullable(TEXT)})
LEG = record(
    {
        "mode": one_of(*TravelMode),
        "people": AMOUNT,
        "km": AMOUNT,
        "origin": TEXT,
        "is_return": FLAG,
        "is_daily": FLAG,
        "vehicles": nullable(AMOUNT),
    }
)
NEUTRALISATIONS = Collection(
    "market_neutralisations",
    record(
        {
            "_id": TEXT,
            "owner": TEXT,
            "payload": TEXT,
            "event": record({"name_zh": TEXT, "name_en": nullable(TEXT), "day": TEXT, "place": TEXT}),
            "legs": list_of(LEG),
            "days": AMOUNT,
            "credit": TEXT,
            "max_price_fen": AMOUNT,
            "named_beneficiary": nullable(BENEFICIARY),
            "beneficiary": BENEFICIARY,
            "statement": TEXT,
            "is_named": FLAG,
            "uses_holdings": FLAG,
            "factors": TEXT,
            "total_g": AMOUNT,
            "to_buy_g": COUNTER,
            "made_at": MOMENT,
            "claimed_until": MOMENT,
            "stage": one_of(*NeutralStage),
            "order": nullable(TEXT),
            "bought_g": COUNTER,
            "certificate": nullable(TEXT),
            "failure": nullable(TEXT),
            "ended_at": nullable(MOMENT),
            "version": AMOUNT,
        }
    ),
    (
        Index("owner_made", [("owner", 1), ("made_at", -1), ("_id", -1)]),
        Index("going", [("claimed_until", 1)], partial={"stage": {"$in": [stage.value for stage in GOING]}}),
    ),
)
COLLECTIONS = (NEUTRALISATIONS,)


def neutralisation_to_document(one: Neutralisation) -> Document:
    """The neutralisation as stored."""
    asked = one.asked
    return {
        "_id": one.id,
        "owner": one.owner,
        "payload": one.payload,
        "event": {
            "name_zh": asked.event.name_zh,
            "name_en": asked.event.name_en,
            "day": asked.event.day.isoformat(),
            "place": asked.event.place,
        },
        "legs": [_leg(leg) for leg in asked.legs],
        "days": Int64(asked.days),
        "credit": asked.credit,
        "max_price_fen": Int64(asked.max_price_fen),
        "named_beneficiary": _beneficiary(asked.beneficiary) if asked.beneficiary else None,
        "beneficiary": _beneficiary(one.beneficiary),
        "statement": asked.statement,
        "is_named": asked.is_named,
        "uses_holdings": asked.uses_holdings,
        "factors": one.factors,
        "total_g": Int64(one.total_g),
        "to_buy_g": Int64(one.to_buy_g),
        "made_at": one.made_at,
        **standing(one),
    }


def standing(one: Neutralisation) -> Document:
    """All that may change of it."""
    return {
        "claimed_until": one.claimed_until,
        "stage": one.stage.value,
        "order": one.order,
        "bought_g": Int64(one.bought_g),
        "certificate": one.certificate,
        "failure": one.failure,
        "ended_at": one.ended_at,
        "version": Int64(one.version),
    }


def _leg(leg: Leg) -> Document:
    return {
        "mode": leg.mode.value,
        "people": Int64(leg.people),
        "km": Int64(leg.km),
        "origin": leg.origin,
        "is_return": leg.is_return,
        "is_daily": leg.is_daily,
        "vehicles": None if leg.vehicles is None else Int64(leg.vehicles),
    }


def _beneficiary(given: Beneficiary) -> Document:
    return {"name": given.name, "name_zh": given.name_zh, "credit_code": given.credit_code}


def neutralisation_from_document(document: Mapping[str, Any]) -> Neutralisation:
    """The stored neutralisation."""
    return Neutralisation(
        id=NeutralisationId(document["_id"]),
        owner=OwnerId(document["owner"]),
        payload=document["payload"],
        asked=_read_asked(document),
        beneficiary=Beneficiary(**document["beneficiary"]),
        factors=document["factors"],
        total_g=int(document["total_g"]),
        to_buy_g=int(document["to_buy_g"]),
        made_at=document["made_at"],
        claimed_until=document["claimed_until"],
        stage=NeutralStage(document["stage"]),
        order=document["order"],
        bought_g=int(document["bought_g"]),
        certificate=CertificateId(document["certificate"]) if document["certificate"] else None,
        failure=document["failure"],
        ended_at=document["ended_at"],
        version=int(document["version"]),
    )


def _read_asked(document: Mapping[str, Any]) -> Neutralising:
    event, named = document["event"], document["named_beneficiary"]
    return Neutralising(
        event=Event(event["name_zh"], event["name_en"], date.fromisoformat(event["day"]), event["place"]),
        legs=tuple(_read_leg(leg) for leg in document["legs"]),
        days=int(document["days"]),
        credit=Asset(document["credit"]),
        max_price_fen=int(document["max_price_fen"]),
        beneficiary=Beneficiary(**named) if named else None,
        statement=document["statement"],
        is_named=document["is_named"],
        uses_holdings=document["uses_holdings"],
    )


def _read_leg(document: Mapping[str, Any]) -> Leg:
    return Leg(
        mode=TravelMode(document["mode"]),
        people=int(document["people"]),
        km=int(document["km"]),
        origin=document["origin"],
        is_return=document["is_return"],
        is_daily=document["is_daily"],
        vehicles=None if document["vehicles"] is None else int(document["vehicles"]),
    )
