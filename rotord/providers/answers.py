"""What every API's answer goes through, whatever was asked: its JSON is read, and what it repeats of our secrets is masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable


def json_of(body: bytes) -> object:
    """Read JSON; None if it is none."""
    try:
        content: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return content


def masked(text: str, secrets: Iterable[str]) -> str:
    """Mask each secret; an empty one is none."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text
