"""Every key of the model as data: for the names of environment variables, for "did you mean", for the documents.

In a key's place NAME stands for what the user calls a provider or a DKIM key.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr

from rotord.settings.model import Dkim, Settings
from rotord.settings.providers import PROVIDER_KINDS

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PREFIX: Final = "ROTORD_"
NAMED: Final = frozenset({"providers", "dkim"})


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `kind` is that of its provider; '' for keys outside of providers."""

    where: tuple[str, ...]
    kind: str
    field: FieldInfo

    @property
    def meaning(self) -> str:
        """One line."""
        return self.field.description or "which kind of provider this is"

    def note(self, name: str) -> Any:
        """Read one of the notes that `setting()` took: unit, example, absent."""
        extra = self.field.json_schema_extra
        return extra.get(name) if isinstance(extra, dict) else None

    @property
    def is_secret(self) -> bool:
        """True when no message may repeat its value."""
        return _base(self.field.annotation) is SecretStr

    @property
    def is_text(self) -> bool:
        """True when an environment variable's value is taken as it stands, else it is read as TOML."""
        base = _base(self.field.annotation)
        return base in {str, SecretStr, Path} or get_origin(base) is Literal

    @property
    def type_words(self) -> str:
        """Name the type to a person."""
        base = _base(self.field.annotation)
        if get_origin(base) is Literal:
            return ", ".join(get_args(base))
        words = {bool: "true or false", int: "whole number", float: "number", str: "text", SecretStr: "secret", Path: "path"}
        return words.get(base) or ("table" if get_origin(base) is Mapping else "number or [least, most]")

    @property
    def default(self) -> str | None:
        """Write the default as TOML; None when there is none, or none that TOML can say."""
        value = self.note("example") if get_origin(_base(self.field.annotation)) is tuple else self.field.default
        return None if value is None or self.field.is_required() else toml(value)


def toml(value: object) -> str:
    """Write a setting's value as TOML."""
    match value:
        case SecretStr():
            return json.dumps(value.get_secret_value())
        case str() | Path():
            return json.dumps(str(value))
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.10g}"
        case Mapping():
            return "{ " + ", ".join(f"{key} = {toml(entry)}" for key, entry in value.items()) + " }" if value else "{}"
        case _:
            return str(value)


def _base(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _base(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return _base(next(option for option in get_args(annotation) if option is not type(None)))
    return annotation


def _walk(model: type[BaseModel], prefix: tuple[str, ...], kind: str = "") -> list[Key]:
    keys = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _walk(field.annotation, (*prefix, name), kind)
        elif not prefix and name == "providers":
            for one, provider in PROVIDER_KINDS.items():
                keys += sorted(_walk(provider, ("providers", "NAME"), one), key=lambda key: key.where[-1] != "kind")
        elif not prefix and name == "dkim":
            keys += _walk(Dkim, ("dkim", "NAME"))
        else:
            keys.append(Key((*prefix, name), kind, field))
    return keys


@cache
def keys() -> tuple[Key, ...]:
    """List every key in the order of the model, a provider's once for each kind."""
    return tuple(_walk(Settings, ()))


def generic(where: tuple[str | int, ...]) -> tuple[str, ...]:
    """Put NAME where the user's own name stands."""
    parts = tuple(str(part) for part in where)
    return (parts[0], "NAME", *parts[2:]) if len(parts) > 1 and parts[0] in NAMED else parts


def lookup(where: tuple[str | int, ...]) -> Key | None:
    """Find the key that stands there, whichever kind of provider it belongs to."""
    place = generic(where)
    return next((key for key in keys() if key.where == place), None)


def beside(where: tuple[str | int, ...], kind: str = "") -> list[str]:
    """List the names that may stand in the same table."""
    place = generic(where)
    depth = len(place) - 1
    return sorted(
        {
            key.where[depth]
            for key in keys()
            if len(key.where) > depth and key.where[:depth] == place[:depth] and (not kind or key.kind in {kind, ""})
        }
    )


def variable(where: tuple[str | int, ...]) -> str:
    """Name the environment variable of a key."""
    return PREFIX + "__".join(str(part) for part in where).upper()
