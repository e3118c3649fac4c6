"""The settings written out for people: docs/settings.md and config/rotord.toml.

`python -m rotord.settings.describe` in the project's directory writes both anew; a test fails while they differ.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from rotord.settings.catalogue import Key, keys, toml
from rotord.settings.model import Dkim, Settings
from rotord.settings.providers import PROVIDER_KINDS

EXAMPLE: Final = Path("config/rotord.toml")
REFERENCE: Final = Path("docs/settings.md")

_REFERENCE_HEAD: Final = """# Settings

Written by `python -m rotord.settings.describe` from the model in `rotord/settings`; a test holds both equal.

The file is TOML, found at `--config`, `$ROTORD_CONFIG` or `/etc/rotord/rotord.toml`; without one everything has its default.
A key's value comes from the first of these that has it:

1. the environment: `ROTORD_ENGINE__CONCURRENCY=50`, `ROTORD_PROVIDERS__RELAY__PASSWORD=...` (`__` between the parts;
   numbers, arrays and tables as in TOML, text as it stands);
2. a file in `$CREDENTIALS_DIRECTORY` (systemd credentials), named like the variable in lower case:
   `rotord_providers__relay__password`; one line end at its end is dropped;
3. the file;
4. the default.

A variable may make a provider that the file lacks when its `KIND` is given too. An unknown key, variable or credential is an error
that names the nearest known one, and rotord exits with 2. Nothing is read again while rotord runs.
"""

_EXAMPLE_HEAD: Final = """\
# rotord: every setting with its default, unit and meaning (docs/settings.md). A key behind a # is absent by default.
# Environment variables (ROTORD_ENGINE__CONCURRENCY=50) and files in $CREDENTIALS_DIRECTORY win over this file.
# As it stands nothing leaves this machine: both providers write their mail to files under state.dir.
"""


def reference() -> str:
    """Write docs/settings.md."""
    lines = [_REFERENCE_HEAD]
    for title, intro, section in _sections():
        lines += [f"## {title}", "", intro, "", "| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
        lines += [_row(key) for key in section] + [""]
    return "\n".join(lines)


def _sections() -> list[tuple[str, str, list[Key]]]:
    tables: dict[tuple[tuple[str, ...], str], list[Key]] = {}
    for key in keys():
        tables.setdefault((key.where[:-1], key.kind), []).append(key)
    sections = []
    for (table, kind), section in tables.items():
        title = f"`[{'.'.join(table)}]`" + (f", kind `{kind}`" if kind else "")
        sections.append((title, _doc(table, kind), section))
    return sections


def _doc(table: tuple[str, ...], kind: str) -> str:
    model: Any = PROVIDER_KINDS[kind] if kind else Dkim
    if table[-1] != "NAME":
        model = Settings
        for part in table:
            model = model.model_fields[part].annotation
    return inspect.getdoc(model) or ""


def _row(key: Key) -> str:
    default = f"`{key.default}`" if key.default is not None else key.note("absent") or "required"
    return f"| `{key.where[-1]}` | {key.type_words} | {default} | {key.note('unit') or ''} | {key.meaning} |"


def example() -> str:
    """Write config/rotord.toml: the defaults, two sandboxes, and every other table behind a #."""
    lines = [_EXAMPLE_HEAD]
    for title, intro, section in _sections():
        table = section[0].where[:-1]
        if table[-1] != "NAME":
            lines += [f"# {intro}", f"[{'.'.join(table)}]", *map(_line, section), ""]
        elif section[0].kind == "sandbox":
            lines += _sandboxes(intro, section)
        else:
            names = {"smtp": "relay_smtp", "mailgun": "mailgun_eu", "sendgrid": "sendgrid_main", "smtp2go": "smtp2go_main"}
            name = names.get(section[0].kind, "acme")
            body = [line if line.startswith("#") else f"# {line}" for line in map(_line, section)]
            lines += [f"# {title.replace('`', '')}: {intro}", f"# [{table[0]}.{name}]", *body, ""]
    return "\n".join(lines)


def _sandboxes(intro: str, section: list[Key]) -> list[str]:
    return [
        f"# {intro} The example fleet names these two;",
        "# `relay` is an SMTP relay in earnest: set its kind to smtp and give the keys of [providers.relay_smtp] above.",
        "[providers.relay]",
        'kind = "sandbox"',
        "",
        "[providers.sandbox]",
        *map(_line, section),
        "",
    ]


def _line(key: Key) -> str:
    name, unit = key.where[-1], key.note("unit")
    comment = f"   # {unit}; {key.meaning}" if unit else f"   # {key.meaning}"
    if name == "kind":
        return f"kind = {toml(key.kind)}{comment}"
    if key.default is not None:
        return f"{name} = {key.default}{comment}"
    absent = key.note("absent")
    return f"# {name} = {toml(key.note('example'))}{comment}" + (f"; absent: {absent}" if absent else "; required")


def main() -> None:
    """Write both files, from the project's directory."""
    EXAMPLE.write_text(example(), encoding="utf-8")
    REFERENCE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
