"""How the tables of documented answers are written and read."""

from __future__ import annotations

import json

from multidict import CIMultiDict

from rotord.core.http_replies import Answer, Effect
from rotord.core.model import Blame, Outcome
from rotord.providers.http import ApiConfig

NOW = 1_800_000_000.0
REFUSED = (Outcome.REJECTED, Blame.CONTENT, Effect.NONE)
UNKNOWN_RECIPIENT = (Outcome.REJECTED, Blame.RECIPIENT, Effect.NONE)
NOT_LET_IN = (Outcome.NOT_SENT, Blame.ACCOUNT, Effect.DOWN)
SENDER = (Outcome.DEFERRED, Blame.SENDER, Effect.NONE)
ACCOUNT = (Outcome.DEFERRED, Blame.ACCOUNT, Effect.NONE)
PROVIDER = (Outcome.DEFERRED, Blame.PROVIDER, Effect.NONE)
TOO_MUCH = (Outcome.DEFERRED, Blame.RATE, Effect.PAUSE)
TOO_MUCH_OF_ONE_DOMAIN = (Outcome.DEFERRED, Blame.RATE, Effect.EASE)
UNKNOWN = (Outcome.UNCERTAIN, Blame.PROVIDER, Effect.NONE)


def config(**changes):
    return ApiConfig(**({"name": "api", "base_url": "https://api.example", "api_key": "canary-key"} | changes))


def answer(status, body, headers=None, *, complete=True):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, CIMultiDict(headers or {}), content, complete)


def meaning(judgement):
    return judgement.reply.outcome, judgement.reply.blame, judgement.effect
