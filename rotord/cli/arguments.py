"""Arguments that several commands share, read once into values."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Final

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: a span longer than this reaches behind what PostgreSQL calls a timestamp
MAX_SPAN_S: Final = 1000 * 365 * 86400


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def positive(text: str) -> int:
    """Read a whole number above zero."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def duration(text: str) -> timedelta:
    """Read "90s", "30m", "2h", "7d" or "1w"."""
    match = re.fullmatch(r"([0-9]{1,12})([smhdw])", text)
    if match is None or (seconds := int(match[1]) * UNITS[match[2]]) > MAX_SPAN_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30m, 2h or 7d")
    return timedelta(seconds=seconds)


def moment(text: str) -> datetime | timedelta:
    """Read a time (ISO 8601, UTC unless it says otherwise) or how long ago it was ("2h")."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            return duration(text)
        except argparse.ArgumentTypeError:
            problem = f"{text!r} is neither a time such as 2026-11-24T08:00Z nor how long ago, such as 2h"
            raise argparse.ArgumentTypeError(problem) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
