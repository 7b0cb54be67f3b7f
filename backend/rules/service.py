"""The door to what is published: publish what comes with the software, and read the rule book as it stands."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from backend.rules.conversion import Terms, choose_campaigns, choose_version
from backend.rules.drafts import LogEntry, Step
from backend.rules.drafts_store import DraftWrites
from backend.rules.errors import PublishedOtherwiseError
from backend.rules.model import Limits
from backend.rules.refusals import ForeignProfileError
from backend.rules.store import Published, RuleWrites, version_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from backend.kernel.clock import Clock
    from backend.mongo.transactions import Transactions, Tx
    from backend.rules.model import Campaign, Cap, Kind, Limit, Methodology, Profile, RuleVersion
    from backend.rules.store import Publication, RuleStore

LOG = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RuleBook:
    """Every kind, and every version, campaign and limit of the programme's profile, at one revision.

    Given an earlier ``revision``, the book answers as it did then.
    """

    revision: int
    profile: str
    kinds: Mapping[str, Kind]
    versions: Mapping[str, Sequence[RuleVersion]]
    campaigns: Sequence[Campaign]
    limits: Sequence[Limits]
    publications: Sequence[Publication]

    def version_for(self, kind: str, occurred_at: datetime, *, revision: int | None = None) -> RuleVersion | None:
        """The version that converts an act of this kind that happened at this moment."""
        return choose_version(self.versions.get(kind, ()), kind, occurred_at, revision=revision)

    def campaigns_for(self, kind: str, occurred_at: datetime, revision: int | None = None) -> tuple[Campaign, ...]:
        """The campaigns held for acts of this kind that happened at this moment."""
        return choose_campaigns(self.campaigns, kind, occurred_at, revision=revision)

    def caps_for(self, kind: str, revision: int | None = None) -> tuple[Cap, ...]:
        """The programme's own caps and budgets on which acts of this kind draw."""
        return tuple(limit.cap for limit in self.latest_limits(revision) if limit.covers(self.kinds[kind]))

    def latest_limits(self, revision: int | None = None) -> tuple[Limit, ...]:
        """The programme's own caps and budgets as published last."""
        known = (found for found in self.limits if revision is None or found.revision <= revision)
        latest = max(known, key=lambda found: found.revision, default=None)
        return latest.limits if latest else ()

    def terms_for(self, kind: str, occurred_at: datetime, *, revision: int | None = None) -> Terms:
        """What beside its rule bears on an act of this kind that happened at this moment."""
        return Terms(
            caps=self.caps_for(kind, revision), campaigns=self.campaigns_for(kind, occurred_at, revision=revision)
        )

    @cached_property
    def asks_district(self) -> bool:
        """Whether some condition asks where the citizen lives."""
        versions = [version for versions in self.versions.values() for version in versions]
        conditions = [
            *(version.condition for version in versions),
            *(each.condition for version in versions for each in version.multipliers),
            *(campaign.condition for campaign in self.campaigns),
        ]
        return any(condition is not None and "district" in condition for condition in conditions)

    def find_rule(self, code: str) -> tuple[RuleVersion, ...]:
        """All versions of the rule, newest first."""
        found = [version for versions in self.versions.values() for version in versions if version.rule == code]
        return tuple(sorted(found, key=lambda version: -version.version))

    def latest_campaigns(self) -> tuple[Campaign, ...]:
        """Every campaign as published last, by code."""
        latest = {campaign.code: campaign for campaign in sorted(self.campaigns, key=lambda c: c.revision)}
        return tuple(latest[code] for code in sorted(latest))

    def methodologies(self) -> dict[str, Methodology]:
        """Every methodology a published rule is taken from, by code, as told last."""
        published = [version for versions in self.versions.values() for version in versions]
        return {v.methodology.code: v.methodology for v in sorted(published, key=lambda v: v.revision)}

    def known_at(self, moment: datetime) -> int:
        """The revision published last by then; 0 before the first."""
        return max((publication.revision for publication in self.publications if publication.at <= moment), default=0)


class Rules:
    """Published kinds, rule versions, campaigns and limits of one programme's profile."""

    def __init__(self, store: RuleStore, transactions: Transactions, clock: Clock, profile: str) -> None:
        self._store = store
        self._transactions = transactions
        self._clock = clock
        self.profile = profile
        self._book: RuleBook | None = None

    async def publish(
        self, profile: Profile, limits: Sequence[Limit] | None = None, *, actor: str = "system:start"
    ) -> int:
        """Publish what of a shipped profile and the preset's limits is not published yet; how many versions were new.

        A version or kind that the programme's own staff published under the same name stands: theirs is the later word.

        Raises:
            ForeignProfileError: the programme goes by another profile.
            PublishedOtherwiseError: a version or kind of that name came with the software with other content.
        """
        if profile.code != self.profile:
            raise ForeignProfileError(profile.code)
        now = self._clock.now()

        async def body(tx: Tx) -> int:
            writes = RuleWrites(tx)
            content = _new_content(await writes.published(), profile, limits)
            if content:
                publication = await writes.publish(content, now)
                await DraftWrites(tx).log(_shipped_entry(profile, content, publication, actor))
            return len(content.versions)

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
            book = _book(revision, self.profile, await self._store.load(revision))
            self._book = book
        return book


def _book(revision: int, profile: str, published: Published) -> RuleBook:
    by_kind: dict[str, list[RuleVersion]] = defaultdict(list)
    for version in published.versions:
        if version.profile == profile:
            by_kind[version.kind].append(version)
    return RuleBook(
        revision=revision,
        profile=profile,
        kinds={kind.code: kind for kind in published.kinds},
        versions=dict(by_kind),
        campaigns=published.campaigns,
        limits=published.limits,
        publications=published.publications,
    )


def _new_content(published: Published, profile: Profile, limits: Sequence[Limit] | None) -> Published:
    """What of the profile and the limits is to be published."""
    kinds = {kind.code: kind for kind in published.kinds}
    versions = {version_id(v): dataclasses.replace(v, revision=0, published_at=None) for v in published.versions}
    for name, known, shipped in (
        *((kind.code, kinds.get(kind.code, kind), kind) for kind in profile.kinds),
        *((version_id(v), versions.get(version_id(v), v), v) for v in profile.versions),
    ):
        if known != shipped and name not in published.drafted:
            raise PublishedOtherwiseError(name)
        if known != shipped:
            LOG.warning("what staff published stands before what comes with the software", name=name)
    last = max(published.limits, key=lambda found: found.revision, default=Limits(revision=0, limits=()))
    stands = limits is None or tuple(limits) == last.limits or str(last.revision) in published.drafted
    return Published(
        kinds=[kind for kind in profile.kinds if kind.code not in kinds],
        versions=[version for version in profile.versions if version_id(version) not in versions],
        limits=[] if stands else [Limits(revision=0, limits=tuple(limits or ()))],
    )


def _shipped_entry(profile: Profile, content: Published, publication: Publication, actor: str) -> LogEntry:
    counts = f"{len(content.versions)} rule versions, {len(content.kinds)} kinds, {len(content.limits)} sets of limits"
    return LogEntry(
        id=f"publication/{publication.revision}",
        at=publication.at,
        actor=actor,
        step=Step.SHIP,
        subject=f"profile:{profile.code}",
        draft=None,
        reason=counts,
        difference=(),
        revision=publication.revision,
    )
