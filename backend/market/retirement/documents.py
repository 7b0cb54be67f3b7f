"""The retirement's collection and the codec of its documents; no queries.

``market_certificates``: one a retirement, never changed but for ``origin``, which is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.kernel.errors import Text
from backend.kernel.ids import TransactionId
from backend.ledger.model import Asset, OwnerId
from backend.market.pooling.model import ActsSummary, KindSum
from backend.market.retirement.model import (
    Beneficiary,
    Certificate,
    CertificateId,
    CreditFacts,
    Origin,
    RetirementPurpose,
)
from backend.market.serials.model import parse_ranges, spelled
from backend.mongo.collections import (
    AMOUNT,
    BILINGUAL,
    COUNTER,
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

FACTS = record(
    {"project": BILINGUAL, "methodologies": list_of(TEXT), "vintage": COUNTER, "verifier": TEXT, "report": TEXT}
)
ACTS = record(
    {
        "kinds": list_of(record({"kind": TEXT, "acts": COUNTER, "grams": COUNTER})),
        "citizens": COUNTER,
        "acts": COUNTER,
        "first": MOMENT,
        "last": MOMENT,
    }
)
CERTIFICATES = Collection(
    "market_certificates",
    record(
        {
            "_id": TEXT,
            "number": TEXT,
            "owner": TEXT,
            "owner_name": nullable(TEXT),
            "beneficiary": record({"name": TEXT, "name_zh": nullable(TEXT), "credit_code": nullable(TEXT)}),
            # The names as they are looked for: without case.
            "sought": list_of(TEXT),
            "purpose": one_of(*RetirementPurpose),
            "statement": TEXT,
            "credit": TEXT,
            "grams": AMOUNT,
            "serials": TEXT,
            "transaction": TEXT,
            "at": MOMENT,
            "payload": TEXT,
            "origin": nullable(record({"facts": FACTS, "acts": ACTS})),
        }
    ),
    (
        Index("number", [("number", 1)], unique=True),
        Index("at", [("at", -1), ("_id", -1)]),
        Index("credit_at", [("credit", 1), ("at", -1), ("_id", -1)]),
        Index("owner_at", [("owner", 1), ("at", -1), ("_id", -1)]),
        Index("sought", [("sought", 1), ("at", -1)]),
    ),
)
COLLECTIONS = (CERTIFICATES,)


def sought_name(name: str) -> str:
    """A name as it is looked for."""
    return " ".join(name.casefold().split())


def certificate_to_document(certificate: Certificate) -> Document:
    """The certificate as stored."""
    given = certificate.beneficiary
    names = [sought_name(name) for name in (given.name, given.name_zh) if name]
    return {
        "_id": certificate.id,
        "number": certificate.number,
        "owner": certificate.owner,
        "owner_name": certificate.owner_name,
        "beneficiary": {"name": given.name, "name_zh": given.name_zh, "credit_code": given.credit_code},
        "sought": sorted(set(names)),
        "purpose": certificate.purpose.value,
        "statement": certificate.statement,
        "credit": certificate.credit,
        "grams": Int64(certificate.grams),
        "serials": spelled(certificate.serials),
        "transaction": certificate.transaction,
        "at": certificate.at,
        "payload": certificate.payload,
        "origin": origin_to_document(certificate.origin) if certificate.origin else None,
    }


def origin_to_document(origin: Origin) -> Document:
    """The origin as stored."""
    facts, acts = origin.facts, origin.acts
    return {
        "facts": {
            "project": {"zh": facts.project.zh, "en": facts.project.en},
            "methodologies": list(facts.methodologies),
            "vintage": Int64(facts.vintage),
            "verifier": facts.verifier,
            "report": facts.report,
        },
        "acts": {
            "kinds": [{"kind": k.kind, "acts": Int64(k.acts), "grams": Int64(k.grams)} for k in acts.kinds],
            "citizens": Int64(acts.citizens),
            "acts": Int64(acts.acts),
            "first": acts.first,
            "last": acts.last,
        },
    }


def certificate_from_document(document: Mapping[str, Any]) -> Certificate:
    """The stored certificate."""
    return Certificate(
        id=CertificateId(document["_id"]),
        number=document["number"],
        owner=OwnerId(document["owner"]),
        owner_name=document["owner_name"],
        beneficiary=Beneficiary(**document["beneficiary"]),
        purpose=RetirementPurpose(document["purpose"]),
        statement=document["statement"],
        credit=Asset(document["credit"]),
        grams=int(document["grams"]),
        serials=parse_ranges(document["serials"]),
        transaction=TransactionId(document["transaction"]),
        at=document["at"],
        payload=document["payload"],
        origin=_read_origin(document["origin"]) if document["origin"] else None,
    )


def _read_origin(document: Mapping[str, Any]) -> Origin:
    facts, acts = document["facts"], document["acts"]
    return Origin(
        CreditFacts(
            project=Text(facts["project"]["zh"], facts["project"]["en"]),
            methodologies=tuple(facts["methodologies"]),
            vintage=int(facts["vintage"]),
            verifier=facts["verifier"],
            report=facts["report"],
        ),
        ActsSummary(
            kinds=tuple(KindSum(one["kind"], int(one["acts"]), int(one["grams"])) for one in acts["kinds"]),
            citizens=int(acts["citizens"]),
            acts=int(acts["acts"]),
            first=acts["first"],
            last=acts["last"],
        ),
    )
