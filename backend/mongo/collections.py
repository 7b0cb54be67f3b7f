"""What a collection is: name, validator, named indexes; declared by the store that owns it, created by ``migrate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import Int64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONG: Mapping[str, Any] = {"bsonType": "long"}
AMOUNT: Mapping[str, Any] = {"bsonType": "long", "minimum": Int64(1)}
COUNTER: Mapping[str, Any] = {"bsonType": "long", "minimum": Int64(0)}
TEXT: Mapping[str, Any] = {"bsonType": "string"}
MOMENT: Mapping[str, Any] = {"bsonType": "date"}
FLAG: Mapping[str, Any] = {"bsonType": "bool"}
TEXT_MAP: Mapping[str, Any] = {"bsonType": "object", "additionalProperties": TEXT}


def one_of(*values: str) -> dict[str, Any]:
    """A text among these."""
    return {"enum": list(values)}


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same or null."""
    return {"anyOf": [schema, {"bsonType": "null"}]}


def list_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """An array of such values."""
    return {"bsonType": "array", "items": schema}


def record(fields: Mapping[str, Any], *, optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object with exactly these fields (and perhaps the optional ones)."""
    return {
        "bsonType": "object",
        "required": list(fields),
        "properties": {**fields, **(optional or {})},
        "additionalProperties": False,
    }


BILINGUAL: Mapping[str, Any] = record({"zh": TEXT, "en": TEXT})


@dataclass(frozen=True, slots=True)
class Index:
    """A named index; ``partial`` limits it to matching documents, ``expire_after_s`` lets the server delete by age."""

    name: str
    keys: Sequence[tuple[str, int]]
    unique: bool = False
    partial: Mapping[str, Any] | None = None
    expire_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection with the schema every document must satisfy and the indexes its queries use."""

    name: str
    schema: Mapping[str, Any]
    indexes: tuple[Index, ...] = ()
