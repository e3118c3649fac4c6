"""Where settings come from: the environment wins over credentials, credentials win over the file, the file over defaults.

Reads nothing but the file, the directory of credentials and the mapping it is given. Every fault is one line with its
place (file:line, variable or credential), and no line holds a secret.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from rotord.handwritten import Document, FaultsError, Where, nearest, read_text, read_toml, sentence
from rotord.settings.catalogue import NAMED, PREFIX, beside, keys, lookup, variable
from rotord.settings.model import Settings
from rotord.settings.providers import PROVIDER_KINDS, PROVIDER_NAME, SHIPPED_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

SYSTEM_FILE: Final = Path("/etc/rotord/rotord.toml")
# A file of every key with its comments is 10 kB; a credential is a key or a PEM.
_MAX_FILE_BYTES, _MAX_CREDENTIAL_BYTES = 1_048_576, 65_536


class SettingsError(FaultsError):
    """Settings that rotord cannot start with."""


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings; `path` is --config. SettingsError lists every fault."""
    try:
        found = _find(path, environ)
        draft = _Draft(read_toml(found, _MAX_FILE_BYTES) if found else None)
        credentials = list(_credentials(environ))
    except FaultsError as error:
        raise SettingsError(error.lines) from None
    for name, text in credentials:
        draft.override(name.upper(), f"credential {name}", text)
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG":
            draft.override(name, name, text)
    return draft.settings()


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if named := environ.get(f"{PREFIX}CONFIG"):
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.is_file() else None


def _credentials(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return
    try:
        files = sorted(Path(directory).iterdir())
    except OSError as error:
        raise FaultsError([f"$CREDENTIALS_DIRECTORY {directory}: cannot be read: {error.strerror}"]) from None
    for file in files:
        if file.name.startswith(PREFIX.lower()):
            # an editor or `echo` ends a file with a line end that is no part of the secret
            yield file.name, read_text(file, _MAX_CREDENTIAL_BYTES).removesuffix("\n").removesuffix("\r")


@dataclass(slots=True)
class _Draft:
    """Values on their way to become settings, and where each came from."""

    document: Document | None
    values: dict[str, Any] = field(init=False)
    origins: dict[Where, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # tables are copied as they are written to; the document stays what the file says
        self.values = dict(self.document.values) if self.document else {}

    def override(self, name: str, origin: str, text: str) -> None:
        """Put one variable or credential in its key's place."""
        where = _where(name)
        key = lookup(where)
        if key is None:
            self.faults.append(f"{origin}: names no setting{nearest(name, self._variables())}")
            return
        table = self.values
        for part in where[:-1]:
            inner = table.get(str(part), {})
            if not isinstance(inner, dict):
                return  # the fault of the file, which validation tells
            table[str(part)] = table = dict(inner)
        table[str(where[-1])] = text if key.is_text else _toml_value(text)
        self.origins[where] = origin

    def _variables(self) -> list[str]:
        names = {section: list(table) for section in NAMED if isinstance(table := self.values.get(section), dict)}
        return [
            variable((key.where[0], name, *key.where[2:]) if key.where[0] in NAMED else key.where)
            for key in keys()
            for name in (names.get(key.where[0], ["NAME"]) if key.where[0] in NAMED else [""])
        ]

    def settings(self) -> Settings:
        """Validate; SettingsError with what override found and what the model says."""
        known = self._known_tables()
        try:
            settings = Settings.model_validate(self.values | known)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._tell(detail)
        if self.faults:
            raise SettingsError(self.faults) from None
        return settings

    def _known_tables(self) -> dict[str, Any]:
        """Leave to the model the tables that it can judge; tell of the others: a bad name, a kind of no or another release."""
        good: dict[str, Any] = {}
        for section in NAMED:
            tables = self.values.get(section)
            if not isinstance(tables, dict):
                continue
            good[section] = {
                name: table
                for name, table in tables.items()
                if self._name_is_good(section, name) and (section != "providers" or self._kind_is_good(name, table))
            }
        return good

    def _name_is_good(self, section: str, name: str) -> bool:
        if PROVIDER_NAME.fullmatch(name):
            return True
        self._fault((section, name), "wanted a name of a-z, 0-9 and _")
        return False

    def _kind_is_good(self, name: str, table: object) -> bool:
        if not isinstance(table, dict):
            return True  # the model says what it wanted
        where, kind = ("providers", name, "kind"), table.get("kind")
        shipped = " or ".join(sorted(SHIPPED_KINDS))
        if kind is None:
            others = [other for other in self.values["providers"] if self._in_file(("providers", other))]
            remedy = f"give {shipped}" if self._in_file(where[:2]) else f"no such provider in the file{nearest(name, others)}"
            self._fault(where, f"is missing: {remedy}")
        elif not isinstance(kind, str) or kind not in PROVIDER_KINDS:
            offer = nearest(kind, PROVIDER_KINDS) if isinstance(kind, str) else ""
            self._fault(where, f"is no kind of provider{offer} (this release has {shipped})")
        elif kind not in SHIPPED_KINDS:
            self._fault(where, f"{kind} is not in this release; use {shipped} (its SMTP relay works with kind smtp)")
        else:
            return True
        return False

    def _in_file(self, where: Where) -> bool:
        value: Any = self.document.values if self.document else {}
        for part in where:
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    def _tell(self, error: ErrorDetails) -> None:
        where: Where = error["loc"]
        if where[0] == "providers" and where[2:3] and where[2] in PROVIDER_KINDS:
            where = (*where[:2], *where[3:])  # the tag of the union, which no file holds
        if where[-1] == "[key]":
            where = where[:-1]
        key = lookup(where) or lookup(where[:-1])  # the latter for an entry of `outcomes` or `latency_ms`
        if error["type"] == "extra_forbidden":
            what = f"unknown key{nearest(str(where[-1]), beside(where, self._kind(where)))}"
        elif error["type"] == "missing" and key is not None and key.note("example") is not None:
            what = f"is missing; give one like {json.dumps(key.note('example'))}"
        else:
            what = sentence(error, secret=key is None or key.is_secret)
        self._fault(where, what)

    def _kind(self, where: Where) -> str:
        return str(self.values["providers"][where[1]]["kind"]) if where[0] == "providers" and len(where) > 1 else ""

    def _fault(self, where: Where, what: str) -> None:
        self.faults.append(f"{self._place(where)}: {_dotted(where)}: {what}")

    def _place(self, where: Where) -> str:
        for length in range(len(where), 1, -1):
            if origin := self.origins.get(where[:length]):
                return origin
        # a table that only variables made is no line of the file
        table = where[:-1]
        made = [origin for place, origin in self.origins.items() if place[:-1] == table]
        if made and table and not self._in_file(table):
            return made[0]
        return self.document.place(where) if self.document else "settings"


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
