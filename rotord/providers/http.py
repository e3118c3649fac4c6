"""An HTTP API as a provider: `max_in_flight` requests at once over kept-alive connections, and an exact account of each.

What a provider's request looks like and what its answers mean is in its own module (mailgun.py, sendgrid.py, smtp2go.py), as
pure functions; the call itself is http_request.py. `body_left` turns True immediately before the write that ends the body: from
then on the provider may have the message, before it cannot, for a body that is shorter than its Content-Length is no request.

    untried -> up -> down -> trial -> up        down: unreachable, or it does not let us in; a probe without a message ends it
                `-> slowed -'                   trial: after "not let in" one message at a time, until one is not refused so
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import structlog
from yarl import URL

from rotord.core.http_replies import Effect, Judgement, unanswered
from rotord.core.model import Blame, Outcome, Reply
from rotord.core.replies import clean
from rotord.providers.answers import masked
from rotord.providers.availability import Availability
from rotord.providers.base import ProviderStatus
from rotord.providers.deadlines import Deadlines
from rotord.providers.http_request import Body, call
from rotord.providers.slowdown import Slowdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from rotord.core.http_replies import Answer
    from rotord.providers.base import Envelope
    from rotord.providers.http_request import Request

_log = structlog.get_logger(__name__)

#: Shorter than any server's: below the 5 s of the shortest that is in use (Node's).
KEEP_ALIVE_S: Final = 3.0
#: Connections that a server closed while they were idle can be many, but after the first of them the loop has heard of all.
TRIES: Final = 3
_CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`tracking`: let the provider rewrite links and count opens as the account is set; False turns both off where it can be."""

    name: str
    base_url: str
    api_key: str = field(repr=False)
    max_in_flight: int = 100
    tracking: bool = False
    connect_timeout_s: float = 10.0
    #: from the connection to the end of the answer
    total_timeout_s: float = 60.0
    probe_max_s: float = 30.0


class Api(Protocol):
    """What is particular to one provider. Both methods are pure: the same arguments, the same result."""

    kind: str
    #: see Provider
    writes_mail: bool
    #: what must stand in no text, whatever a server sends back
    secrets: tuple[str, ...]

    def request(self, envelope: Envelope) -> Request:
        """Write the request; raises RenderError for a message that this API cannot be given."""

    def judge(self, answer: Answer, now: float) -> Judgement:
        """Say what an answer means. Total, whatever the answer. `now` is Unix time."""


class HttpProvider:
    """A provider that takes mail by HTTP."""

    def __init__(self, api: Api, config: ApiConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = config.name
        self.kind, self.writes_mail = api.kind, api.writes_mail
        self.attempt_timeout_s = config.total_timeout_s
        self._api = api
        self._secrets = tuple(filter(None, api.secrets))
        self._config = config
        self._clock = clock
        self._availability = Availability(config.probe_max_s, clock)
        self._slowdown = Slowdown(config.max_in_flight, clock)
        self._on_trial = False
        self._in_flight = 0
        self._session: aiohttp.ClientSession | None = None
        self._work = asyncio.Event()
        self._deadlines = Deadlines()
        self._wake: Callable[[], None] = lambda: None

    def ready(self) -> int:
        """Count the requests that may be made now; none before the first probe, while it is down, and in a pause."""
        if self._availability.up is not True or self._slowdown.pause_s:
            return 0
        return max(0, (1 if self._on_trial else self._slowdown.slots) - self._in_flight)

    def want(self, slots: int) -> None:
        """Nothing has to be opened: a request opens its own connection when none is idle."""

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Register the dispatcher."""
        self._wake = wake

    def take(self) -> HttpSlot | None:
        """Take the place of one request."""
        if self.ready() <= 0:
            return None
        self._in_flight += 1
        return HttpSlot(self)

    def status(self) -> ProviderStatus:
        """Tell how it is doing; one that was asked to slow down is up, with the reason."""
        state, pause_s = self._availability, self._slowdown.pause_s
        return ProviderStatus(
            up=state.up,
            ready=self.ready(),
            in_flight=self._in_flight,
            capacity=1 if self._on_trial else self._slowdown.slots,
            reason=state.reason or self._slowdown.reason,
            next_try_in_s=state.next_try_in_s or pause_s or None,
        )

    async def run(self) -> None:
        """Find out whether it can be reached, and say so again after each time it could not."""
        self._session = self._open_session()
        while True:
            self._work.clear()
            if self._availability.up is not True and self._availability.may_try:
                await self._probe()
                continue
            self._wake()  # a pause may have just ended
            delay_s = self._availability.next_try_in_s
            try:
                async with asyncio.timeout(self._slowdown.pause_s or None if delay_s is None else delay_s):
                    await self._work.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Close every connection. After `run` has ended."""
        session, self._session = self._session, None
        if session is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await session.close()
            except TimeoutError:
                _log.warning("connections_not_closed_in_time", provider=self.name)

    def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._config.max_in_flight + 1, keepalive_timeout=KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._config.connect_timeout_s),
            headers={"User-Agent": "rotord", "Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    async def _probe(self) -> None:
        """See whether it can be reached. Any answer is one: without a key and a message there is nothing to be refused."""
        if self._session is None:
            return
        try:
            async with (
                asyncio.timeout(self._config.connect_timeout_s),
                self._session.get(URL(self._config.base_url), allow_redirects=False),
            ):
                pass
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            self._failed(self._words(error))
        else:
            self._availability.succeeded()
            self._wake()

    def request(self, envelope: Envelope) -> Request:
        """Write the request of one message. Raises RenderError for one that this API cannot be given."""
        return self._api.request(envelope)

    async def exchange(self, slot: HttpSlot, request: Request, leaving: Callable[[], None]) -> Judgement:
        """Make a request, at most `TRIES` times while nothing of it has left."""
        deadline = self._deadlines.until(asyncio.get_running_loop().time() + self._config.total_timeout_s)
        for tries_left in range(TRIES - 1, -1, -1):
            body = slot.body = Body(request, leaving)
            try:
                answer = await call(self._session, request, body, deadline)
            except (aiohttp.ClientError, OSError) as error:
                judgement = unanswered(self._words(error), body_left=body.left)
                unreachable = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError))
                if not body.left and (unreachable or not tries_left):
                    self._failed(judgement.reply.text)
                if body.left or unreachable or isinstance(error, TimeoutError):
                    break
            else:
                judgement = self._judge(answer, body)
                if judgement.reply.blame is not Blame.NETWORK or judgement.reply.outcome is not Outcome.NOT_SENT:
                    break
            finally:
                body.end()
        scrubbed = self._scrubbed(judgement.reply)
        return judgement if scrubbed is judgement.reply else judgement._replace(reply=scrubbed)

    def _judge(self, answer: Answer, body: Body) -> Judgement:
        judgement = self._api.judge(answer, time.time())
        if body.left or (body.begun and judgement.reply.outcome.proves_not_accepted):
            return judgement
        # Not said to the end, it cannot have been taken; not begun, the answer is not to it (some servers say 400 or 408 to an idle
        # connection before they close it).
        return unanswered(f"answered {answer.status} before the message was sent", body_left=False)

    def freed(self, judgement: Judgement | None) -> None:
        """Take a place back, and see what the answer says about the provider. Synchronous: the reply must not wait."""
        self._in_flight -= 1
        if judgement is not None:
            self._draw_conclusions(judgement)
        self._wake()

    def _draw_conclusions(self, judgement: Judgement) -> None:
        reply, effect, quota_back_in_s = judgement
        if effect is Effect.DOWN:
            self._on_trial = True
            self._failed(f"{reply.code} {reply.text}", patiently=True)
            return
        if reply.code:
            self._on_trial = False
        if reply.outcome is Outcome.ACCEPTED:
            self._availability.succeeded()
            self._slowdown.took()
        elif effect is Effect.PAUSE:
            self._slowdown.paused(reply.retry_after_s, f"asked for less: {reply.code} {reply.text}")
        elif effect is Effect.EASE:
            self._slowdown.eased(f"asked for less: {reply.code} {reply.text}")
        if quota_back_in_s:
            self._slowdown.hold(quota_back_in_s)
        if self._slowdown.pause_s:
            self._work.set()  # its end has to be waited for

    def _failed(self, reason: str, *, patiently: bool = False) -> None:
        if self._availability.failed(reason, patiently=patiently):
            _log.warning("provider_down", provider=self.name, reason=reason)
        self._work.set()

    def _words(self, error: Exception) -> str:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            return "no answer in time"
        return masked(clean(str(error) or type(error).__name__), self._secrets)

    def _scrubbed(self, reply: Reply) -> Reply:
        if not any(secret in reply.text or secret in reply.code for secret in self._secrets):
            return reply
        return reply._replace(code=masked(reply.code, self._secrets), text=masked(reply.text, self._secrets))


class HttpSlot:
    """The place of one request, taken for one message."""

    def __init__(self, provider: HttpProvider) -> None:
        self._provider = provider
        self._request: Request | None = None
        self.body: Body | None = None

    @property
    def body_left(self) -> bool:
        """True from the moment the last byte of the request may have been handed to the kernel."""
        return self.body is not None and self.body.left

    def prepare(self, envelope: Envelope) -> None:
        """Write the request."""
        self._request = self._provider.request(envelope)

    async def send(self, leaving: Callable[[], None]) -> Reply:
        """Make the request. Cancelled, it cuts the connection: half a body is no request."""
        if self._request is None:
            raise RuntimeError("nothing was prepared")
        judgement: Judgement | None = None
        try:
            judgement = await self._provider.exchange(self, self._request, leaving)
        finally:
            self._provider.freed(judgement)
        return judgement.reply

    def give_back(self) -> None:
        """Return it unused."""
        self._provider.freed(None)
