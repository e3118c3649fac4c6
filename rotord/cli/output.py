"""What commands print: one JSON document, or aligned columns for a person; no colours, so pipes need no care."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Cell = str | int | float | bool | datetime | None


def print_json(document: Any) -> None:
    """Print one document: keys as given, times as ISO 8601 in UTC ("2026-11-24T05:00:00Z")."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(document, default=_plain, option=options | orjson.OPT_PASSTHROUGH_DATETIME).decode())


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, indent: str = "") -> None:
    """Print columns aligned: numbers to the right, the rest to the left, an empty cell as "-"."""
    table = list(rows)
    grid = [[_cell(value) for value in row] for row in table]
    widths = [max(map(len, column)) for column in zip(headers, *grid, strict=True)]
    numeric = [bool(table) and all(isinstance(row[i], int | float | None) for row in table) for i in range(len(headers))]
    for line in (headers, *grid):
        cells = (text.rjust(width) if right else text.ljust(width) for text, width, right in zip(line, widths, numeric, strict=True))
        print(indent + "  ".join(cells).rstrip())


def plural(count: int, singular: str, plural_form: str = "") -> str:
    """Count something in words: "1 message", "3,000 messages"."""
    return f"{count:,} {singular if count == 1 else plural_form or singular + 's'}"


def when(moment: datetime) -> str:
    """Write a time for a person: UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(duration: timedelta) -> str:
    """Write a duration for a person in its two largest units: "45s", "3m 10s", "2h 5m", "6d 1h"."""
    seconds = max(0, int(duration.total_seconds()))
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"


def _cell(value: Cell) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"no JSON form for {type(value).__name__}")
