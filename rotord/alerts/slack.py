"""Slack: an incoming webhook writes to one channel. The whole address is the secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.alerts.base import Answer, Told, post, refused

if TYPE_CHECKING:
    from rotord.core.alerting import Words

#: what a living webhook says to a message without text
_LIVES: Final = frozenset({"no_text", "invalid_payload", "missing_text_or_fallback_or_attachments"})


class Slack:
    """One channel."""

    name = "slack"
    every_s = 1.0  # one a second and webhook

    def __init__(self, webhook_url: str) -> None:
        self._url = webhook_url

    async def tell(self, words: Words) -> Told:
        """Send a message: text alone, which every client and notification shows."""
        text = f"*{_escape(words.title)}*\n" + "\n".join(map(_escape, words.lines))
        return _told(await post(self._url, {"text": text}))

    async def check(self) -> Told:
        """Send a message without text: a living webhook refuses that, a dead one refuses itself."""
        answer = await post(self._url, {"text": ""})
        if answer.status == 400 and answer.body.decode("utf-8", "replace").strip() in _LIVES:  # noqa: PLR2004 - HTTP's own number
            return Told(is_told=True)
        return _told(answer)


def _told(answer: Answer) -> Told:
    if answer.error:
        return Told(is_told=False, error=answer.error)
    words = answer.body.decode("utf-8", "replace")
    if answer.status == 200 and words.strip() == "ok":  # noqa: PLR2004
        return Told(is_told=True)
    return refused(answer.status, words[:200], answer.headers.get("Retry-After"))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
