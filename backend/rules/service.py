"""The only door to the rules: publish a profile, and read the rule book as it stands now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.rules.conversion import choose_version
from backend.rules.errors import PublishedOtherwiseError
from backend.rules.store import RuleWrites, kind_to_document, version_to_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.model import Kind, Profile, RuleVersion
    from backend.rules.store import RuleStore


@dataclass(frozen=True)
class RuleBook:
    """Every kind, and every version of the programme's profile, at one revision."""

    revision: int
    kinds: Mapping[str, Kind]
    versions: Mapping[str, Sequence[RuleVersion]]

    def version_for(self, kind: str, occurred_at: datetime) -> RuleVersion | None:
        """The version that converts an act of this kind that happened at this moment."""
        return choose_version(self.versions.get(kind, ()), kind, occurred_at)


class Rules:
    """Published kinds and rule versions of one programme's profile."""

    def __init__(self, store: RuleStore, transactions: Transactions, profile: str) -> None:
        self._store = store
        self._transactions = transactions
        self._profile = profile
        self._book: RuleBook | None = None

    async def publish(self, profile: Profile) -> int:
        """Publish what of the profile is not published yet; returns how many versions were new.

        Raises:
            PublishedOtherwiseError: a version or kind of that name is published with other content.
        """
        kinds = [kind_to_document(kind) for kind in profile.kinds]
        versions = [version_to_document(version) for version in profile.versions]

        async def body(tx: Tx) -> int:
            writes = RuleWrites(tx)
            known = await writes.known()
            for document in (*kinds, *versions):
                if known.get(document["_id"], document) != document:
                    raise PublishedOtherwiseError(document["_id"])
            new_kinds = [kind for kind in kinds if kind["_id"] not in known]
            new_versions = [version for version in versions if version["_id"] not in known]
            if new_kinds or new_versions:
                await writes.publish(new_kinds, new_versions, await writes.revision() + 1)
            return len(new_versions)

        return await self._transactions.run(body)

    async def book(self) -> RuleBook:
        """The rule book as committed now; read again only when something was published."""
        return await self._at(await self._store.revision())

    async def book_within(self, tx: Tx) -> RuleBook:
        """The rule book as this transaction sees it."""
        return await self._at(await RuleWrites(tx).revision())

    async def _at(self, revision: int) -> RuleBook:
        book = self._book
        if book is None or book.revision < revision:
            kinds, versions = await self._store.load()
            by_kind: dict[str, list[RuleVersion]] = defaultdict(list)
            for version in versions:
                if version.profile == self._profile:
                    by_kind[version.kind].append(version)
            book = RuleBook(revision, {kind.code: kind for kind in kinds}, by_kind)
            self._book = book
        return book
