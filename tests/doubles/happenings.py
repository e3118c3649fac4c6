"""What a double knows of its mails, as its look-ups and webhooks tell it: who has what since when, kept on disk beside the truth log.

Every mail is accepted and, unless `fates` says otherwise, delivered. What else happens to it, a test says.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field

#: `dropped`: its provider did not try, for an earlier bounce or complaint
KINDS = (
    *("accepted", "delivered", "deferred", "bounced", "soft_bounced", "dropped", "complained", "unsubscribed", "opened", "clicked"),
    "failed_later",  # a bounce after the delivery
)


@dataclass(frozen=True)
class Taken:
    """A line of the truth log. `provider_id`: what the answer said. `echo`: what we gave along that events bring back."""

    at: float
    attempt: int
    message_id: str
    to: str
    sender: str
    subject: str
    provider_id: str
    echo: dict[str, str]
    row: str = ""
    #: its answer did not say that it was taken
    lost: bool = False


@dataclass(frozen=True)
class Happening:
    """`number` counts them; what a provider calls an event's id is made from it."""

    number: int
    at: float
    kind: str
    taken: Taken
    details: dict[str, str] = field(default_factory=dict)


class Happenings:
    """`lag_s`: how long until a look-up shows one. `fates(taken)`: the kinds that befall a mail at once."""

    def __init__(self, path, lag_s):
        self.lag_s = lag_s
        self.fates = lambda _taken: ("accepted", "delivered")
        self._path = path
        self._numbers = itertools.count(1)
        self._by_attempt = {}
        self._by_message_id = defaultdict(list)
        self._by_recipient = defaultdict(list)
        self._of = defaultdict(list)

    @property
    def count(self):
        return len(self._by_attempt)

    def remember(self, earlier):
        """The mails of an earlier life, and what had happened to them."""
        for taken in earlier:
            self.take(taken)
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                said = json.loads(line)
                self._note(self._by_attempt[said["attempt"]], said["kind"], said["at"], said["details"])

    def take(self, taken):
        """A new mail; returns what happened to it at once."""
        self._by_attempt[taken.attempt] = taken
        self._by_message_id[taken.message_id.strip("<>")].append(taken)
        self._by_recipient[taken.to.casefold()].append(taken)
        return [self._note(taken, kind, taken.at, {}) for kind in self.fates(taken)]

    def add(self, attempt, kind, details):
        """Something that befalls it later."""
        assert kind in KINDS, kind
        happening = self._note(self._by_attempt[attempt], kind, time.time(), details)
        line = json.dumps({"attempt": attempt, "kind": kind, "at": happening.at, "details": details})
        log = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, line.encode() + b"\n")
        os.close(log)
        return happening

    def visible(self, *, message_id=None, recipient=None, provider_id=None):
        """What a look-up shows, in order of time; by nothing: of every mail."""
        if message_id is not None:
            mails = self._by_message_id.get(message_id, [])
        elif recipient is not None:
            mails = self._by_recipient.get(recipient.casefold(), [])
        else:
            mails = self._by_attempt.values()
        until = time.time() - self.lag_s
        found = (one for taken in mails if provider_id in {None, taken.provider_id} for one in self._of[taken.attempt])
        return sorted((one for one in found if one.at <= until), key=lambda one: (one.at, one.number))

    def _note(self, taken, kind, at, details):
        happening = Happening(next(self._numbers), at, kind, taken, details)
        self._of[taken.attempt].append(happening)
        return happening
