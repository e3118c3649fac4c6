"""What a provider's account has of what rotord needs there: its key's rights, the domains, the webhook, the inbound route.

What is asked and what the answers show is each provider's own module (account_mailgun.py, account_sendgrid.py, account_smtp2go.py), as pure
generators that yield a `Question` and are sent its `Reply`. Here is the call. A survey only reads; `create` asks the one question that a
finding says would create what is missing. Nothing is ever deleted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import aiohttp
from yarl import URL

from rotord.core.authentication import Level, Verdict
from rotord.core.replies import clean
from rotord.providers.answers import json_of, masked
from rotord.providers.http_request import read

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from types import TracebackType

    from rotord.providers.http import ApiConfig

#: a person waits
REQUEST_S: Final = 10.0
SURVEY_S: Final = 60.0
AT_ONCE: Final = 8
#: what is to be done about a domain whose DNS records are not seen
PUBLISH: Final = "rotord provider sync plan shows what to publish"
_ANSWER_LIMIT: Final = 4 * 1024 * 1024


class Wanted(NamedTuple):
    """What should be there. An empty address: there is none to be told of. `token` is what a webhook is to prove itself with."""

    webhook_url: str
    inbound_url: str
    token: str


@dataclass(frozen=True, slots=True)
class Question:
    """One request. A form is sent as Mailgun wants it, JSON as the others do."""

    method: str
    path: str
    form: tuple[tuple[str, str], ...] = ()
    content: Mapping[str, Any] | None = field(default=None, repr=False)


class Reply(NamedTuple):
    """Its answer. Status 0: there was none, `words` say why."""

    status: int
    content: Any
    words: str = ""

    @property
    def is_fine(self) -> bool:
        """True when it was done."""
        return 200 <= self.status < 300  # noqa: PLR2004


class Record(NamedTuple):
    """A DNS record that the provider wants published; `valid` as far as the provider has seen it."""

    kind: str
    name: str
    value: str
    valid: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `create` is what would make it be there, None if it is or cannot be made."""

    kind: str
    name: str
    verdict: Verdict
    create: Question | None = None
    records: tuple[Record, ...] = ()


if TYPE_CHECKING:
    Survey = Generator[Question, Reply, list[Finding]]


class AccountApi(Protocol):
    """What is particular to one provider. All pure."""

    headers: Mapping[str, str]
    secrets: tuple[str, ...]

    def account(self, domains: Sequence[str], wanted: Wanted) -> Survey:
        """Ask what is the account's; the first finding is of kind `provider` and says whether the key is let in."""

    def domain(self, domain: str, wanted: Wanted) -> Survey:
        """Ask what has to be asked of each domain."""

    def words(self, content: Any) -> str:
        """Find the API's own error text."""


class Account:
    """One provider's account: `async with Account(api, config) as account`."""

    def __init__(self, api: AccountApi, config: ApiConfig) -> None:
        self.name = config.name
        self._api = api
        self._config = config
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_S), cookie_jar=aiohttp.DummyCookieJar(), headers=dict(self._api.headers)
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def survey(self, domains: Sequence[str], wanted: Wanted) -> list[Finding]:
        """Look at everything. A provider that is away, or does not let us in, is one finding that fails."""
        try:
            async with asyncio.timeout(SURVEY_S):
                found = await self._ask_all(lambda: self._api.account(domains, wanted))
                if found[0].verdict.level is Level.FAIL:
                    return found[:1]
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._of_domain(domain, wanted), name=f"account {domain}") for domain in domains]
        except TimeoutError:
            says = f"its account did not answer all questions within {SURVEY_S:.0f} s"
            return [Finding("provider", self.name, Verdict(Level.FAIL, says, "ask again later"))]
        return found + [finding for task in tasks for finding in task.result()]

    async def create(self, finding: Finding) -> str:
        """Make what is missing; '' when it is there now, else why not."""
        if finding.create is None:
            return ""
        reply = await self._ask(finding.create)
        return "" if reply.is_fine else failure(reply)

    async def _of_domain(self, domain: str, wanted: Wanted) -> list[Finding]:
        async with self._slots:
            return await self._ask_all(lambda: self._api.domain(domain, wanted))

    async def _ask_all(self, survey: Callable[[], Survey]) -> list[Finding]:
        questions = survey()
        try:
            question = next(questions)
            while True:
                question = questions.send(await self._ask(question))
        except StopIteration as end:
            findings: list[Finding] = end.value
            return findings

    async def _ask(self, question: Question) -> Reply:
        if self._session is None:
            return Reply(0, None, "the account is closed")
        body: dict[str, Any] = {}
        if question.form:
            form = aiohttp.FormData(default_to_multipart=True)
            for name, value in question.form:
                form.add_field(name, value)
            body["data"] = form
        elif question.content is not None:
            body["json"] = question.content
        try:
            url = URL(f"{self._config.base_url}{question.path}", encoded=True)
            async with self._session.request(question.method, url, allow_redirects=False, **body) as response:
                text = (await read(response, _ANSWER_LIMIT))[:_ANSWER_LIMIT]
                status = response.status
        except TimeoutError:
            return Reply(0, None, f"no answer within {REQUEST_S:.0f} s")
        except (aiohttp.ClientError, OSError) as error:
            return Reply(0, None, self._scrubbed(clean(str(error) or type(error).__name__)))
        content = json_of(text)
        return Reply(status, content, self._scrubbed(clean(self._api.words(content))))

    def _scrubbed(self, text: str) -> str:
        return masked(text, self._api.secrets)


def failure(reply: Reply) -> str:
    """Say what went wrong."""
    return f"answered {reply.status} {reply.words}".strip() if reply.status else reply.words


def apply_remedy(name: str) -> str:
    """Name the command that creates what is missing."""
    return f"rotord provider sync apply --provider {name}"


def not_answered(kind: str, name: str, reply: Reply) -> Finding:
    """Say that nobody knows how one thing is, for the account was not told of it."""
    return Finding(kind, name, Verdict(Level.WARN, failure(reply), "ask again later"))


def not_let_in(name: str, reply: Reply) -> Finding:
    """What an account's first question ends with when it is not answered."""
    if reply.status in {401, 403}:
        remedy = f"give [providers.{name}] a key that may read and manage domains and webhooks, not only send"
    elif reply.status:
        remedy = f"check base_url of [providers.{name}]"
    else:
        remedy = f"check base_url of [providers.{name}], and that a firewall lets this machine out"
    return Finding("provider", name, Verdict(Level.FAIL, failure(reply), remedy))


def entries(content: Any, *path: str) -> list[dict[str, Any]]:
    """Take the objects of a list inside an answer; whatever else is there is none."""
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def no_address(name: str, what: str) -> Finding:
    """Say that nothing can be told of events."""
    says = "http.public_url is empty, so it has nowhere to post to"
    return Finding(what, name, Verdict(Level.WARN, says, "set it to how the world reaches http.listen"))
