"""Whose fault a bounce is, judged as a relay's refusal of the recipient would be (rotord.core.replies)."""

from __future__ import annotations

import re

from rotord.core.model import Blame, Outcome
from rotord.core.replies import Phase, smtp_reply

_BASIC = re.compile(r"(?<![\d.])([45]\d\d)(?![\d.])")
_ENHANCED = re.compile(r"(?<![\d.])([45])\.\d{1,3}\.\d{1,3}(?![\d.])")


def blames_recipient(codes: str, text: str) -> bool:
    """Say whether the recipient was refused for good, so that no more mail should go there; False for what does not say."""
    enhanced = _ENHANCED.search(codes) or _ENHANCED.search(text)
    basic = _BASIC.search(codes) or _BASIC.match(text.strip())
    code = int(basic[1]) if basic else int(enhanced[1]) * 100 + 50 if enhanced else 0
    reply = smtp_reply(Phase.RCPT, code, f"{enhanced[0] if enhanced else ''} {text}".strip())
    return reply.outcome is Outcome.REJECTED and reply.blame is Blame.RECIPIENT
