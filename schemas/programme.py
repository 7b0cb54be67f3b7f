"""The programme as clients see it."""

from __future__ import annotations

import strawberry

from backend.kernel.errors import Language
from backend.programme.model import Programme
from schemas.context import Info
from schemas.view import view


@view(of=Programme, name="Programme")
class ProgrammeType:
    """One city's deployment."""

    code: str
    time_zone: str
    profile: str
    districts: list[str]
    intake_window_days: int

    @strawberry.field(description="The programme's name in the language of the request.")
    @staticmethod
    def name(parent: strawberry.Parent[Programme], info: Info) -> str:
        """Name in the reader's language."""
        return parent.name_zh if info.context.language is Language.ZH_CN else parent.name_en


@strawberry.type
class ProgrammeQuery:
    """Queries on the programme."""

    @strawberry.field(graphql_type=ProgrammeType)
    def programme(self, info: Info) -> Programme:
        """This programme."""
        return info.context.services.programme
