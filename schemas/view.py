"""A GraphQL type as a view of a domain class: fields are read by attribute; a missing one fails at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.base import StrawberryObjectDefinition

if TYPE_CHECKING:
    from collections.abc import Callable

View = TypeVar("View", bound=type)


@dataclass_transform()
def view(of: type, *, name: str, when: Callable[[Any], bool] = lambda _: True) -> Callable[[View], View]:
    """Make a class the GraphQL type ``name`` that shows values of the domain class ``of`` (those for which ``when``).

    Raises:
        TypeError: a plain field is no attribute of ``of``.
    """

    def decorate(cls: View) -> View:
        def is_type_of(value: object, _info: Any) -> bool:
            return isinstance(value, of) and when(value)

        cls.is_type_of = staticmethod(is_type_of)  # type: ignore[attr-defined]
        made = strawberry.type(cls, name=name, description=cls.__doc__)
        definition = made.__strawberry_definition__  # type: ignore[attr-defined]
        assert isinstance(definition, StrawberryObjectDefinition)
        known = {name for cls in of.__mro__ for name in vars(cls).get("__annotations__", ())}
        for field in definition.fields:
            if field.base_resolver is None and field.python_name not in known and not hasattr(of, field.python_name):
                raise TypeError(f"{name}.{field.python_name}: {of.__name__} has no such attribute")
        return made

    return decorate
