"""A demo city: citizens, partners and bindings, with ready tokens. Never for production."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from backend.identity.model import ExternalId, Partner, Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId

if TYPE_CHECKING:
    from backend.runtime import Services

TOKEN_LIFETIME = timedelta(hours=12)
METRO = Partner("metro", "镇江轨道交通", ("metro-afc",))
BIKES = Partner("bikes", "镇江公共自行车", ("bike-share",))
RECYCLER = Partner("recycler", "绿源再生资源", ("recycling",))
PARTNERS = (METRO, BIKES, RECYCLER)
SURNAMES = "王李张刘陈杨赵黄周吴"
GIVEN = ("伟", "芳", "娜", "敏", "静", "磊", "洋", "艳", "勇", "杰")
ADMIN = Principal(PrincipalKind.STAFF, "admin", frozenset({StaffRole.ADMIN}))


@dataclass(frozen=True)
class City:
    """Who lives there, and a token for some of them."""

    citizens: list[CitizenId]
    partner_tokens: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)


def citizen_name(number: int) -> str:
    """An invented name."""
    return f"{SURNAMES[number % len(SURNAMES)]}{GIVEN[number // len(SURNAMES) % len(GIVEN)]}{number or ''}"


def holder_of(number: int) -> str:
    """The card or user number of citizen ``number`` at every partner."""
    return f"card-{number:05}"


async def seed_city(services: Services, citizens: int = 200) -> City:
    """Register demo partners and citizens, and bind each citizen's card everywhere; the same again changes nothing."""
    people = {CitizenId(f"demo-{number:04}"): citizen_name(number) for number in range(citizens)}
    await services.identity.register_citizens(people, district=services.programme.districts[0])
    for partner in PARTNERS:
        await services.identity.register_partner(partner)
        for source in partner.sources:
            await services.identity.bind(
                {ExternalId(source, holder_of(number)): citizen for number, citizen in enumerate(people)}
            )
    ids = list(people)
    partner_tokens = {
        partner.id: services.tokens.issue(Principal(PrincipalKind.PARTNER, partner.id), TOKEN_LIFETIME)
        for partner in PARTNERS
    }
    tokens = {
        f"citizen {ids[0]}": services.tokens.issue(Principal(PrincipalKind.CITIZEN, ids[0]), TOKEN_LIFETIME),
        **{f"partner {name}": token for name, token in partner_tokens.items()},
        "administrator": services.tokens.issue(ADMIN, TOKEN_LIFETIME),
    }
    return City(ids, partner_tokens, tokens)
