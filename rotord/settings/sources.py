"""Where settings come from: the environment wins over credentials, credentials win over the file, the file over defaults.

Reads nothing but the file, the directory of credentials and the mapping it is given. Every fault is one line with its
place (file:line, variable or credential), and no line holds a secret. The three sources are ours because each of the
library's is silent where this one must speak: about a variable or credential that names no setting, and a file that is not there.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_settings import PydanticBaseSettingsSource

from rotord.handwritten import FaultsError, Where, nearest, read_text, read_toml, sentence
from rotord.settings.catalogue import NAMED, PREFIX, beside, keys, lookup, variable
from rotord.settings.model import Settings
from rotord.settings.providers import PROVIDER_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

SYSTEM_FILE: Final = Path("/etc/rotord/rotord.toml")
# A file of every key with its comments is 10 kB; a credential is a key or a PEM.
_MAX_FILE_BYTES, _MAX_CREDENTIAL_BYTES = 1_048_576, 65_536
#: Names the file, so it is no setting.
_CONFIG: Final = f"{PREFIX}CONFIG"
#: Faults that pydantic tells of a provider, and that are its kind's.
_OF_THE_KIND: Final = frozenset({"union_tag_not_found", "union_tag_invalid"})


class SettingsError(FaultsError):
    """Settings that rotord cannot start with."""


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings; `path` is --config. SettingsError lists every fault."""
    try:
        file = File(_find(path, environ))
        credentials = Credentials(environ, file)
    except FaultsError as error:
        raise SettingsError(error.lines) from None
    environment = Environment(environ, file)
    reader = _Reader(environment, credentials, file)
    faults = reader.unknown()
    try:
        # the sources know this call's file and environment, so they are handed in ready-made
        settings = Settings(_build_sources=((environment, credentials, file), {}))
    except ValidationError as error:
        faults += reader.invalid(error)
    if faults:
        raise SettingsError(faults)
    return settings


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(_CONFIG):
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.is_file() else None


class _Source(PydanticBaseSettingsSource):
    """Values that stand ready, as tables in tables."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(Settings)
        self.values = values

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  the library's
        """Give what there is of one table."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give all there is; the library puts the sources together."""
        return self.values

    def find(self, where: Where, absent: Any = None) -> Any:
        """Give the value that stands there."""
        value: Any = self.values
        for part in where:
            if not isinstance(value, dict) or part not in value:
                return absent
            value = value[part]
        return value


class File(_Source):
    """The TOML file, if there is one; FaultsError when it cannot be read."""

    def __init__(self, path: Path | None) -> None:
        self.document = read_toml(path, _MAX_FILE_BYTES) if path else None
        super().__init__(self.document.values if self.document else {})


class Overrides(_Source):
    """Keys that are given one by one, as (variable, origin, text). A table that the file says is none stays the file's fault."""

    def __init__(self, given: Iterable[tuple[str, str, str]], file: File) -> None:
        super().__init__({})
        self.origins: dict[Where, str] = {}
        self.unknown: list[tuple[str, str]] = []
        for name, origin, text in given:
            where = _where(name)
            key = lookup(where)
            if key is None:
                self.unknown.append((name, origin))
            elif all(isinstance(file.find(where[:length], {}), dict) for length in range(1, len(where))):
                self._put(where, text if key.is_text else _toml_value(text))
                self.origins[where] = origin

    def _put(self, where: Where, value: object) -> None:
        table = self.values
        for part in where[:-1]:
            table = table.setdefault(str(part), {})
        # dicts of two sources become one; a key's value comes from one
        table[str(where[-1])] = MappingProxyType(value) if isinstance(value, dict) else value


class Environment(Overrides):
    """The variables that begin with ROTORD_."""

    def __init__(self, environ: Mapping[str, str], file: File) -> None:
        ours = sorted(name for name in environ if name.startswith(PREFIX) and name != _CONFIG)
        super().__init__(((name, name, environ[name]) for name in ours), file)


class Credentials(Overrides):
    """The files of $CREDENTIALS_DIRECTORY; FaultsError when one cannot be read."""

    def __init__(self, environ: Mapping[str, str], file: File) -> None:
        super().__init__(_credentials(environ.get("CREDENTIALS_DIRECTORY", "")), file)


def _credentials(directory: str) -> Iterator[tuple[str, str, str]]:
    if not directory:
        return
    try:
        files = sorted(Path(directory).iterdir())
    except OSError as error:
        raise FaultsError([f"$CREDENTIALS_DIRECTORY {directory}: cannot be read: {error.strerror}"]) from None
    for file in files:
        if file.name.startswith(PREFIX.lower()):
            # an editor or `echo` ends a file with a line end that is no part of the secret
            text = read_text(file, _MAX_CREDENTIAL_BYTES).removesuffix("\n").removesuffix("\r")
            yield file.name.upper(), f"credential {file.name}", text


class _Reader:
    """Says faults in a person's words, each with its place."""

    def __init__(self, environment: Overrides, credentials: Overrides, file: File) -> None:
        self._sources = (environment, credentials, file)
        self._file = file
        self._unknown = [*credentials.unknown, *environment.unknown]
        self._origins = credentials.origins | environment.origins

    def unknown(self) -> list[str]:
        """Tell of variables and credentials that name no setting."""
        known = self._variables() if self._unknown else []
        return [f"{origin}: names no setting{nearest(name, known)}" for name, origin in self._unknown]

    def invalid(self, error: ValidationError) -> list[str]:
        """Tell what the model says, of a table with a bad name only that."""
        details = error.errors(include_url=False)
        misnamed = {detail["loc"][:2] for detail in details if _is_name(detail)}
        return [self._line(detail) for detail in details if _is_name(detail) or detail["loc"][:2] not in misnamed]

    def _variables(self) -> list[str]:
        names = {
            section: list(dict.fromkeys(name for source in self._sources for name in _table(source, section))) or ["NAME"]
            for section in NAMED
        }
        return [
            variable((key.where[0], name, *key.where[2:]) if key.where[0] in NAMED else key.where)
            for key in keys()
            for name in names.get(key.where[0], [""])
        ]

    def _line(self, error: ErrorDetails) -> str:
        where: Where = error["loc"]
        kind = str(where[2]) if where[0] == "providers" and where[2:3] and where[2] in PROVIDER_KINDS else ""
        if kind:
            where = (*where[:2], *where[3:])  # the tag of the union, which no file holds
        if error["type"] in _OF_THE_KIND:
            where = (*where, "kind")
        if where[-1] == "[key]":
            where = where[:-1]
        what = "wanted a name of a-z, 0-9 and _" if _is_name(error) else self._what(error, where, kind)
        return f"{self._place(where)}: {_dotted(where)}: {what}"

    def _what(self, error: ErrorDetails, where: Where, kind: str) -> str:
        key = lookup(where) or lookup(where[:-1])  # the latter for an entry of `outcomes` or `latency_ms`
        kinds = " or ".join(", ".join(PROVIDER_KINDS).rsplit(", ", 1))
        match error["type"]:
            case "extra_forbidden":
                return f"unknown key{nearest(str(where[-1]), beside(where, kind))}"
            case "union_tag_not_found":
                there = self._file.find(where[:2]) is not None
                others = _table(self._file, "providers")
                return f"is missing: {f'give {kinds}' if there else f'no such provider in the file{nearest(str(where[1]), others)}'}"
            case "union_tag_invalid":
                return f"is no kind of provider{nearest(str(error['ctx']['tag']), PROVIDER_KINDS)} (there are {kinds})"
            case "missing" if key is not None and key.note("example") is not None:
                return f"is missing; give one like {json.dumps(key.note('example'))}"
            case _:
                return sentence(error, secret=key is None or key.is_secret)

    def _place(self, where: Where) -> str:
        for length in range(len(where), 1, -1):
            if origin := self._origins.get(where[:length]):
                return origin
        # a table that only variables made is no line of the file
        table = where[:-1]
        made = [origin for place, origin in self._origins.items() if place[:-1] == table]
        if made and table and self._file.find(table) is None:
            return made[0]
        return self._file.document.place(where) if self._file.document else "settings"


def _table(source: _Source, section: str) -> dict[str, Any]:
    table = source.find((section,))
    return table if isinstance(table, dict) else {}


def _is_name(error: ErrorDetails) -> bool:
    return error["loc"][0] in NAMED and error["loc"][2:] == ("[key]",)


def _where(name: str) -> Where:
    """ROTORD_PROVIDERS__MAILGUN_EU__API_KEY -> providers, mailgun_eu, api_key. A name in the middle may hold '__' itself."""
    parts = name.removeprefix(PREFIX).lower().split("__")
    if parts[0] in NAMED and len(parts) > 3:  # noqa: PLR2004  section, name, key
        return (parts[0], "__".join(parts[1:-1]), parts[-1])
    return tuple(parts)


def _toml_value(text: str) -> object:
    """Read a number, a truth or an array as TOML would; what is none of them stays text, for the model to refuse."""
    try:
        values = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return values["value"] if len(values) == 1 else text


def _dotted(where: Where) -> str:
    return ".".join(str(part) if re.fullmatch(r"[\w-]+", str(part), re.ASCII) else json.dumps(str(part)[:60]) for part in where)
