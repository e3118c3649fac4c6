"""Telegram: a bot writes to one chat (Bot API, sendMessage). The token is part of every URL."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson
import structlog

from rotord.alerts.base import Told, post, refused

if TYPE_CHECKING:
    from rotord.core.alerting import Words

_log = structlog.get_logger(__name__)
#: 4096 after the markup is read, counted in UTF-16 units; with a margin
LONGEST: Final = 4000


class Telegram:
    """One chat of one bot."""

    name = "telegram"
    every_s = 3.0  # 20 a minute in a group

    def __init__(self, base_url: str, token: str, chat_id: str) -> None:
        self._bot_url = f"{base_url}/bot{quote(token, safe=':')}"
        self._chat_id = chat_id

    async def tell(self, words: Words) -> Told:
        """Send a message; once more, to the new one, when the group has become a supergroup with another id."""
        told, moved_to = await self._send(words)
        if moved_to is not None:
            _log.warning("telegram_chat_moved", chat_id=moved_to, remedy="set alerts.telegram.chat_id to it")
            self._chat_id = moved_to
            told, _ = await self._send(words)
        return told

    async def check(self) -> Told:
        """Ask who the bot is, and whether it knows the chat."""
        told, _ = await self._call("getMe", {})
        if told.is_told:
            told, _ = await self._call("getChat", {"chat_id": self._chat_id})
        return told

    async def _send(self, words: Words) -> tuple[Told, str | None]:
        title = _cut(words.title, LONGEST // 2)
        body = _cut("\n".join(words.lines), LONGEST // 2)
        text = f"<b>{escape(title, quote=False)}</b>\n{escape(body, quote=False)}"
        content = {"chat_id": self._chat_id, "text": text, "parse_mode": "HTML", "link_preview_options": {"is_disabled": True}}
        return await self._call("sendMessage", content)

    async def _call(self, method: str, content: dict[str, Any]) -> tuple[Told, str | None]:
        answer = await post(f"{self._bot_url}/{method}", content)
        if answer.error:
            return Told(is_told=False, error=answer.error), None
        try:
            document = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            document = {}
        if answer.status == 200 and document.get("ok") is True:  # noqa: PLR2004 - HTTP's own number
            return Told(is_told=True), None
        parameters = document.get("parameters")
        parameters = parameters if isinstance(parameters, dict) else {}
        told = refused(answer.status, str(document.get("description", "")), parameters.get("retry_after"))
        moved_to = parameters.get("migrate_to_chat_id")
        return told, None if moved_to is None else str(moved_to)


def _cut(text: str, units: int) -> str:
    if len(text.encode("utf-16-le")) <= 2 * units:
        return text
    return text.encode("utf-16-le")[: 2 * units - 2].decode("utf-16-le", "ignore") + "…"
