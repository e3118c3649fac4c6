"""An SMTP relay as a provider: a bounded set of open sessions, of which each carries one message at a time.

    opening -> idle -> taken -> idle | soiled | closed        soiled: refused in mid-transaction, needs RSET
                  `-> resetting <---------'                   unused for 10 s: does it still live?
                          `-> idle | closed

The sessions' sets have one writer, this class, on one loop. `run` alone opens, checks and closes idle sessions; `take` and
a slot's end only move a session between sets and wake `run`. A session is handed out only while its transport is open, so
what fails before the wire almost always fails here, where it costs no message anything.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from rotord.core import return_path
from rotord.core.model import Blame, Outcome
from rotord.providers.availability import Availability
from rotord.providers.base import ProviderStatus
from rotord.providers.slowdown import Slowdown
from rotord.providers.smtp_connection import HandshakeError, SmtpConfig, SmtpConnection, tls_context
from rotord.providers.smtp_transaction import SmtpTransaction

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from rotord.core.model import Reply
    from rotord.providers.base import Envelope

__all__ = ["SmtpConfig", "SmtpProvider", "SmtpSlot"]

#: TLS handshakes are our CPU and the server's; more at once make all of them slow
HANDSHAKES_AT_ONCE: Final = 10
#: how long a server's "too many connections" is remembered
LEARNED_S: Final = 60.0
#: how long no more sessions are tried after one could not be opened while others are
RETRY_S: Final = 10.0
#: `run` looks after idle sessions at least this often
_ROUND_S: Final = 1.0


class SmtpProvider:
    """A relay that speaks SMTP. Sends over up to `config.connections` sessions; keeps one open while there is no work."""

    kind = "smtp"
    writes_mail = False

    def __init__(self, config: SmtpConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = config.name
        self.attempt_timeout_s = config.command_timeout_s + config.final_dot_timeout_s
        self._config = config
        self._clock = clock
        self._availability = Availability(config.probe_max_s, clock)
        self._idle: deque[SmtpConnection] = deque()
        self._taken: set[SmtpConnection] = set()
        self._soiled: set[SmtpConnection] = set()
        self._resetting: set[SmtpConnection] = set()
        self._opening = 0
        self._wanted = 0
        self._limit = config.connections
        self._limit_until = 0.0
        self._slowdown = Slowdown(config.connections, clock)
        self._was_paused = False
        self._work = asyncio.Event()
        self._wake: Callable[[], None] = lambda: None

    def ready(self) -> int:
        """Count idle sessions that are open at this moment and may be used; none while the relay takes no mail, or wants a rest."""
        if self._availability.up is False or self._slowdown.pause_s:
            return 0
        allowed = max(0, self._slowdown.slots - len(self._taken))
        return min(allowed, sum(1 for connection in self._idle if connection.is_open))

    def want(self, slots: int) -> None:
        """Note the backlog's wish; `run` opens what is missing."""
        if slots > self._wanted:
            self._work.set()
        self._wanted = slots

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Register the dispatcher."""
        self._wake = wake

    def take(self) -> SmtpSlot | None:
        """Hand out the session that was used last: the others may grow old enough to be closed."""
        may_use = self._availability.up is not False and not self._slowdown.pause_s and len(self._taken) < self._slowdown.slots
        while self._idle and may_use:
            connection = self._idle.pop()
            if connection.is_open:
                self._taken.add(connection)
                return SmtpSlot(connection, self._config, self._freed)
        self._work.set()
        return None

    def status(self) -> ProviderStatus:
        """Tell how it is doing."""
        state = self._availability
        return ProviderStatus(
            up=state.up,
            ready=self.ready(),
            in_flight=len(self._taken),
            capacity=min(self._limit, self._slowdown.slots),
            reason=state.reason or self._slowdown.reason,
            next_try_in_s=state.next_try_in_s,
        )

    async def run(self) -> None:
        """Open, check and close sessions until cancelled."""
        context = await self._tls_context()
        async with asyncio.TaskGroup() as group:
            while True:
                self._work.clear()
                self._tend(group)
                self._end_pause()
                self._open_missing(group, context)
                try:
                    async with asyncio.timeout(min(_ROUND_S, self._slowdown.pause_s or _ROUND_S)):
                        await self._work.wait()
                except TimeoutError:
                    continue

    def _end_pause(self) -> None:
        """Tell the dispatcher once that the rest is over."""
        is_paused = self._slowdown.pause_s > 0
        if self._was_paused and not is_paused:
            self._wake()
        self._was_paused = is_paused

    async def close(self) -> None:
        """Say QUIT on every session nobody uses, cut the others. After `run` has ended."""
        for connection in (*self._taken, *self._soiled):
            connection.abort()
        async with asyncio.TaskGroup() as group:
            while self._idle:
                group.create_task(self._idle.pop().quit(), name=f"{self.name} quit")

    async def _tls_context(self) -> ssl.SSLContext | None:
        while True:
            try:
                return await asyncio.to_thread(tls_context, self._config)
            except OSError as error:  # no ca_file, or none that holds certificates
                self._availability.failed(f"ca_file {self._config.ca_file}: {error}", patiently=True)
            await asyncio.sleep(self._config.probe_max_s)

    def _tend(self, group: asyncio.TaskGroup) -> None:
        """Close what is unused for long, check what is unused for a while, clean what a refusal has left."""
        now = self._clock()
        if now >= self._limit_until:
            self._limit = self._config.connections
        checks, spared = [c for c in self._soiled if c.is_open], False
        self._soiled.clear()
        for connection in reversed(tuple(self._idle)):  # the last used first: that one is spared
            if not connection.is_open:
                self._idle.remove(connection)
                continue
            if spared and now - connection.used_at > self._config.idle_s:
                self._idle.remove(connection)
                self._wanted = 0  # or it would be opened again at once
                group.create_task(connection.quit(), name=f"{self.name} quit")
            elif now - connection.alive_at > self._config.verify_idle_s:
                self._idle.remove(connection)
                checks.append(connection)
            spared = True
        for connection in checks:
            self._resetting.add(connection)
            group.create_task(self._reset(connection), name=f"{self.name} reset")

    def _open_missing(self, group: asyncio.TaskGroup, context: ssl.SSLContext | None) -> None:
        if not self._availability.may_try:
            return
        usable = len(self._idle) + len(self._resetting) + self._opening
        total = usable + len(self._taken)
        if self._availability.up:
            missing = min(max(self._wanted, 0 if total else 1) - usable, HANDSHAKES_AT_ONCE - self._opening)
        else:
            missing = 1 - self._opening  # one probe tells as much as ten
        missing = min(missing, self._limit - total)
        for _ in range(missing):
            self._opening += 1
            group.create_task(self._open(context), name=f"{self.name} open")

    async def _open(self, context: ssl.SSLContext | None) -> None:
        try:
            connection = await SmtpConnection.open(self._config, context, self._clock)
        except HandshakeError as error:
            self._not_opened(error)
            return
        finally:
            self._opening -= 1
        self._availability.succeeded()
        self._now_idle(connection)
        self._work.set()  # more may be wanted

    def _not_opened(self, error: HandshakeError) -> None:
        others = len(self._idle) + len(self._resetting) + len(self._taken)
        if others:
            self._limit = others
            self._limit_until = self._clock() + (LEARNED_S if error.too_many_connections else RETRY_S)
        else:
            self._availability.failed(str(error), patiently=error.needs_a_person)

    async def _reset(self, connection: SmtpConnection) -> None:
        lives = False
        try:
            lives = await connection.reset(self._clock())
        finally:
            self._resetting.discard(connection)
            if not lives:
                connection.abort()
        if lives:
            self._now_idle(connection)
        self._work.set()

    def _now_idle(self, connection: SmtpConnection) -> None:
        self._idle.append(connection)
        self._wake()

    def _freed(self, connection: SmtpConnection, transaction: SmtpTransaction | None, reply: Reply | None) -> None:
        """Take a session back from its slot. Synchronous: the reply must not wait for what happens to the session."""
        self._taken.discard(connection)
        if transaction is not None:
            connection.used_at = connection.alive_at = self._clock()
            self._judge(connection, reply)
            connection.messages += 1
        if not connection.is_open or (transaction is not None and transaction.broken):
            connection.abort()
            self._work.set()
        elif transaction is None or transaction.clean:
            self._now_idle(connection)
        else:
            self._soiled.add(connection)
            self._work.set()

    def _judge(self, connection: SmtpConnection, reply: Reply | None) -> None:
        """See whether a reply is about the relay rather than the message: then nothing more is begun on it for a while."""
        if reply is not None and reply.outcome is Outcome.ACCEPTED:
            self._availability.succeeded()
            self._slowdown.took()
        elif reply is not None and reply.blame is Blame.RATE:
            self._slowdown.paused(reply.retry_after_s, f"asked for less: {reply.code} {reply.text}")
            self._work.set()
            return
        if reply is None or reply.outcome is not Outcome.NOT_SENT:
            return
        if reply.blame is Blame.ACCOUNT:
            self._availability.failed(f"{reply.code} {reply.text}", patiently=True)
        elif not connection.messages and not any(other.messages for other in (*self._idle, *self._taken)):
            # It greets, but takes no message: without a pause every message would be begun again and again.
            self._availability.failed(f"{reply.code} {reply.text}".strip())


def _return_path(config: SmtpConfig, envelope: Envelope) -> str:
    """Where bounces go: to an address of this attempt alone, or, without one, to the sender."""
    if not config.return_path:
        return envelope.sender.email
    domain = config.return_path.replace("{domain}", envelope.sender.email.rpartition("@")[2])
    return return_path.build(config.return_path_key, envelope.attempt_id, domain)


class SmtpSlot:
    """One session, taken for one message."""

    def __init__(
        self,
        connection: SmtpConnection,
        config: SmtpConfig,
        freed: Callable[[SmtpConnection, SmtpTransaction | None, Reply | None], None],
    ) -> None:
        self._connection = connection
        self._config = config
        self._freed = freed
        self._transaction: SmtpTransaction | None = None

    @property
    def body_left(self) -> bool:
        """True from the moment the final dot may have been handed to the kernel."""
        return self._transaction is not None and self._transaction.body_left

    def prepare(self, envelope: Envelope) -> None:
        """Write its commands and stuff its dots."""
        connection, config = self._connection, self._config
        self._transaction = SmtpTransaction(
            connection.client,
            connection.writer,
            envelope,
            config.command_timeout_s,
            config.final_dot_timeout_s,
            return_path=_return_path(config, envelope),
            is_rehearsal=config.is_rehearsal,
        )

    async def send(self, leaving: Callable[[], None]) -> Reply:
        """Send the message. Cancelled, it cuts the connection: half a message with no dot is no message."""
        transaction = self._transaction
        if transaction is None:
            raise RuntimeError("nothing was prepared")
        reply: Reply | None = None
        try:
            reply = await transaction.run(leaving)
        finally:
            if reply is None:
                transaction.broken = True
            self._freed(self._connection, transaction, reply)
        return reply

    def give_back(self) -> None:
        """Return the session unused."""
        self._freed(self._connection, None, None)
