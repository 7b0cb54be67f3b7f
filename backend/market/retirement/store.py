"""Every query of certificates."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bson import Int64

from backend.ledger.audit.findings import Audit
from backend.market.funds.store import stream_legible
from backend.market.retirement.documents import (
    CERTIFICATES,
    certificate_from_document,
    certificate_to_document,
    origin_to_document,
    sought_name,
)
from backend.mongo.paging import page_by_moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from backend.ledger.model import Asset, OwnerId
    from backend.market.retirement.model import Certificate, CertificateId, Origin
    from backend.mongo.client import Database, Document, Snapshot
    from backend.mongo.paging import Place
    from backend.mongo.transactions import Tx


class CertificateReads:
    """Certificates as committed, and the one write that needs no transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, certificate: CertificateId) -> Certificate | None:
        """The certificate of that id."""
        return _read(await self._database.find_one(CERTIFICATES.name, {"_id": certificate}))

    async def find_numbered(self, number: str) -> Certificate | None:
        """The certificate of that number."""
        return _read(await self._database.find_one(CERTIFICATES.name, {"number": number}))

    async def list_page(
        self,
        *,
        owner: OwnerId | None = None,
        credit: Asset | None = None,
        beneficiary: str | None = None,
        limit: int,
        older: Place | None = None,
        newer: Place | None = None,
        newest: bool = True,
    ) -> list[Certificate]:
        """Certificates, newest first: all, an owner's, a credit's, those of beneficiaries whose name begins so."""
        found = await page_by_moment(
            self._database,
            CERTIFICATES.name,
            _query(owner, credit, beneficiary),
            moment="at",
            limit=limit,
            older=older,
            newer=newer,
            newest=newest,
        )
        return [certificate_from_document(document) for document in found]

    async def total(self, *, credit: Asset | None, beneficiary: str | None) -> tuple[int, int]:
        """How many certificates these are, and of how many grams together."""
        group = {"_id": None, "count": {"$sum": Int64(1)}, "grams": {"$sum": "$grams"}}
        pipeline = [{"$match": _query(None, credit, beneficiary)}, {"$group": group}]
        found = await self._database.aggregate(CERTIFICATES.name, pipeline)
        return (int(found[0]["count"]), int(found[0]["grams"])) if found else (0, 0)

    async def note_origin(self, certificate: CertificateId, origin: Origin) -> None:
        """Keep where the credits come from, once: it never changes."""
        change = {"$set": {"origin": origin_to_document(origin)}}
        await self._database.update_one(CERTIFICATES.name, {"_id": certificate, "origin": None}, change)


def _query(owner: OwnerId | None, credit: Asset | None, beneficiary: str | None) -> dict[str, Any]:
    query: dict[str, Any] = {}
    if owner is not None:
        query["owner"] = owner
    if credit is not None:
        query["credit"] = credit
    if beneficiary is not None:
        query["sought"] = {"$regex": f"^{re.escape(sought_name(beneficiary))}"}
    return query


def _read(document: Document | None) -> Certificate | None:
    return certificate_from_document(document) if document else None


class CertificateWrites:
    """What a retirement writes beside the book, inside one MongoDB transaction."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    async def find(self, certificate: CertificateId) -> Certificate | None:
        """The certificate of that id, as the transaction sees it."""
        return _read(await self._tx.find_one(CERTIFICATES.name, {"_id": certificate}))

    async def is_taken(self, number: str) -> bool:
        """Whether a certificate has that number."""
        return await self._tx.find_one(CERTIFICATES.name, {"number": number}) is not None

    async def insert(self, certificate: Certificate) -> None:
        """Write the certificate."""
        await self._tx.insert_many(CERTIFICATES.name, [certificate_to_document(certificate)])


def stream_certificates(snapshot: Snapshot, audit: Audit) -> AsyncIterator[tuple[Certificate, bool]]:
    """Every certificate that can be read, and whether its document is what it should be."""

    def decode(document: Document) -> tuple[Certificate, bool]:
        certificate = certificate_from_document(document)
        return certificate, certificate_to_document(certificate) == document

    return stream_legible(snapshot, audit, CERTIFICATES, decode, sort=[("_id", 1)])


async def find_at(snapshot: Snapshot, ids: Iterable[CertificateId]) -> dict[CertificateId, Certificate]:
    """Those of the certificates that can be read at the snapshot's instant; the others are told where all are."""
    query = {"_id": {"$in": sorted(ids)}}
    found = stream_legible(snapshot, Audit(), CERTIFICATES, certificate_from_document, query=query)
    return {certificate.id: certificate async for certificate in found}
