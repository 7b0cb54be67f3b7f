"""Domain errors on the wire, mapped once: refusals as members of result unions, the rest as ``errors[]``.

Each refusal class gives one GraphQL type with its code, its message and its fields; no mutation maps errors itself.
"""

from __future__ import annotations

import dataclasses
from enum import Enum
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import strawberry
from strawberry.schema import ExceptionHandler
from strawberry.types import Info

import backend.actions.backtesting.errors
import backend.actions.errors
import backend.identity.errors
import backend.kernel.errors
import backend.ledger.errors
import backend.market.benefits.errors
import backend.market.exchange.errors
import backend.market.funds.errors
import backend.market.neutrality.errors
import backend.market.pooling.errors
import backend.market.retirement.errors
import backend.rewards.merchants.errors
import backend.rewards.offers.errors
import backend.rewards.settlement.errors
import backend.rewards.stock.errors
import backend.rewards.vouchers.errors
import backend.rewards.webhooks.errors
import backend.rules.refusals
from backend.kernel.errors import DomainError, Language, Refusal, Text
from backend.rules.drafts import Problem
from schemas.scalars import BigInt
from schemas.view import view

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from strawberry.types.field import StrawberryField

MODULES: tuple[ModuleType, ...] = (
    backend.kernel.errors,
    backend.identity.errors,
    backend.ledger.errors,
    backend.actions.errors,
    backend.actions.backtesting.errors,
    backend.rules.refusals,
    backend.market.benefits.errors,
    backend.market.exchange.errors,
    backend.market.funds.errors,
    backend.market.pooling.errors,
    backend.market.neutrality.errors,
    backend.market.retirement.errors,
    backend.rewards.merchants.errors,
    backend.rewards.offers.errors,
    backend.rewards.settlement.errors,
    backend.rewards.stock.errors,
    backend.rewards.vouchers.errors,
    backend.rewards.webhooks.errors,
)


def error_classes() -> Iterator[type[DomainError]]:
    """Every error class that has a code."""
    for module in MODULES:
        for value in vars(module).values():
            is_error = isinstance(value, type) and issubclass(value, DomainError) and "code" in vars(value)
            if is_error and value.__module__ == module.__name__:
                yield value


REFUSALS: tuple[type[Refusal], ...] = tuple(cls for cls in error_classes() if issubclass(cls, Refusal))
_codes = {cls.code: cls.code for cls in REFUSALS}
ErrorCode: Any = Enum("ErrorCode", _codes)  # type: ignore[misc]
strawberry.enum(ErrorCode, description="Why an operation was refused; codes never change.")


@strawberry.interface(name="Refusal", description="An operation was refused, and nothing changed.")
class RefusalInterface:
    """What all refusals share."""

    code: ErrorCode
    message: str


@view(of=Problem, name="RuleProblem")
class RuleProblemType:
    """What keeps a rule from being used; for an expression with line and column in it, from 1."""

    path: str
    line: int | None
    column: int | None

    @strawberry.field
    @staticmethod
    def message(parent: strawberry.Parent[Problem], info: Info[Any, Any]) -> str:
        """What is wrong with it, in the reader's language."""
        return parent.problem.said(info.context.language)


# How a refusal's fields appear in GraphQL where they are not what they are.
SHOWN_AS: dict[Any, Any] = {int: BigInt, Text: str, tuple[Problem, ...]: list[RuleProblemType]}


def _refusal_type(cls: type[Refusal]) -> type[RefusalInterface]:
    hints = get_type_hints(cls)
    fields = [(field.name, SHOWN_AS.get(hints[field.name], hints[field.name])) for field in dataclasses.fields(cls)]
    name = cls.__name__.removesuffix("Error")
    made = dataclasses.make_dataclass(name, fields, bases=(RefusalInterface,))
    made.__module__ = __name__
    return strawberry.type(made, name=name, description=cls.__doc__)


TYPES: dict[type[Refusal], type[RefusalInterface]] = {cls: _refusal_type(cls) for cls in REFUSALS}


def show(refusal: Refusal, language: Language) -> RefusalInterface:
    """The refusal as its GraphQL type."""
    return TYPES[type(refusal)](
        code=ErrorCode(refusal.code),
        message=refusal.message(language),
        **refusal.values(language),
    )


def _handler(cls: type[Refusal]) -> ExceptionHandler[Any, Any]:
    class Handler(ExceptionHandler):  # type: ignore[type-arg]
        exception_type = cls
        error_type = TYPES[cls]

        def handle(self, exception: Refusal, *, field: StrawberryField, info: Info[Any, Any]) -> Any:  # noqa: ARG002
            return show(exception, info.context.language)

    return Handler()


HANDLERS = tuple(_handler(cls) for cls in REFUSALS)


def result_union(name: str, success: type, *refusals: type[Refusal]) -> Any:
    """The union a mutation returns: its success or one of its refusals."""
    members = (success, *(TYPES[cls] for cls in refusals))
    return Annotated[reduce(or_, members), strawberry.union(name)]
