"""What every table of the settings is made of: a closed, frozen model, and keys that carry their unit and meaning."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, WrapSerializer

if TYPE_CHECKING:
    from collections.abc import Mapping


def setting(
    default: Any = ...,
    /,
    meaning: str = "",
    *,
    unit: str = "",
    example: JsonValue = None,
    absent: str = "",
    **bounds: Any,
) -> Any:
    """Describe one key: `example` and `absent` (what its absence means) are for a key whose default no TOML can say."""
    extra: dict[str, JsonValue] = {"unit": unit, "example": example, "absent": absent}
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


def _path(value: object) -> object:
    return Path(value) if isinstance(value, str) else value


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        good = False
    if text and not good:
        raise ValueError("wanted an address that begins with https:// or http://")
    return text.rstrip("/")


def _frozen(table: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(table))


#: What a user may call a provider or a DKIM key: it is part of a variable's name.
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
FilePath = Annotated[Path, BeforeValidator(_path)]
WebAddress = Annotated[str, AfterValidator(_web_address)]


class Section(BaseModel):
    """A table of the file: closed, and nothing in it changes after it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


def _thawed(table: Mapping[str, Any], handler: SerializerFunctionWrapHandler) -> Any:
    return handler(dict(table))


#: For a table with names of the user's own: it cannot change after validation, and pydantic can still write it out.
FROZEN: Final = (AfterValidator(_frozen), WrapSerializer(_thawed))
