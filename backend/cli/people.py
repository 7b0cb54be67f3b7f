"""Principals from the command line: development tokens, and the first citizens, partners and bindings."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from backend.cli.console import OUT, CommandError, quiet_logs, running_settings, with_services
from backend.identity.model import ExternalId, Partner, Principal, PrincipalKind, StaffRole
from backend.kernel.ids import CitizenId
from backend.settings import Environment

if TYPE_CHECKING:
    from backend.runtime import Services

admin = typer.Typer(help="Register citizens, partners and bindings.", no_args_is_help=True)
Subject = Annotated[str, typer.Option(help="Id of the principal.")]


def token(
    role: Annotated[str, typer.Option(help="citizen, merchant, partner, enterprise, admin, reviewer or verifier.")],
    subject: Subject,
    source: Annotated[list[str] | None, typer.Option(help="A partner's source; may be repeated.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=24 * 60, help="How long the token is valid.")] = 60,
) -> None:
    """Print a token for development, registering a citizen or partner that is new. Only where TANHUI_ENV=dev."""
    quiet_logs()
    settings = running_settings()
    if settings.env is not Environment.DEV:
        raise CommandError("tokens are printed only where TANHUI_ENV=dev")
    principal = _principal(role, subject)

    async def issue(services: Services) -> str:
        if principal.kind is PrincipalKind.CITIZEN:
            await services.identity.register_citizens({CitizenId(subject): subject})
        if principal.kind is PrincipalKind.PARTNER:
            await services.identity.register_partner(Partner(subject, subject, tuple(source or ())))
        return services.tokens.issue(principal, timedelta(minutes=minutes))

    typer.echo(with_services(settings, issue))


def _principal(role: str, subject: str) -> Principal:
    if role in StaffRole.__members__.values():
        return Principal(PrincipalKind.STAFF, subject, frozenset({StaffRole(role)}))
    if role in PrincipalKind.__members__.values() and role != PrincipalKind.STAFF:
        return Principal(PrincipalKind(role), subject)
    raise CommandError(f"no role {role!r}")


@admin.command("citizen")
def register_citizen(citizen: str, name: str, district: str | None = None) -> None:
    """Register a citizen."""
    quiet_logs()

    async def register(services: Services) -> int:
        return await services.identity.register_citizens({CitizenId(citizen): name}, district=district)

    new = with_services(running_settings(), register)
    OUT.print("registered" if new else "was registered already")


@admin.command("partner")
def register_partner(partner: str, name: str, source: Annotated[list[str], typer.Option()]) -> None:
    """Register a partner and its sources."""
    quiet_logs()

    async def register(services: Services) -> None:
        await services.identity.register_partner(Partner(partner, name, tuple(source)))

    with_services(running_settings(), register)
    OUT.print("registered")


@admin.command("bind")
def bind(source: str, external_id: str, citizen: str) -> None:
    """Bind a card or user number of a source to a citizen."""
    quiet_logs()

    async def run(services: Services) -> None:
        if not await services.identity.find_citizens([CitizenId(citizen)]):
            raise CommandError(f"no citizen {citizen}")
        await services.identity.bind({ExternalId(source, external_id): CitizenId(citizen)})

    with_services(running_settings(), run)
    OUT.print("bound")


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command()(token)
    app.add_typer(admin, name="admin")
