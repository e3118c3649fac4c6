"""The exchange with the providers' own suppression lists: what they list is suppressed here, what is suppressed here is added there.

One loop a provider, one request at a time. A pass reads every page of every list; where it was cut off, the next term goes on. Then what
is new here is added. Nothing is ever taken off, on neither side. What goes wrong only makes the next pass later; nothing of it ends the
term. A list that cannot be read (a domain that the account does not have) delays no other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from rotord.core.lookups import Trouble, Unclear
from rotord.core.suppression_lists import MOST_PAGES
from rotord.db.list_sync import PushKey
from rotord.engine.retry import until_done
from rotord.engine.waiting import wait

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rotord.core.suppression_lists import Added, Entry, ListKey, Page, Span
    from rotord.db.list_sync import Carried, Due, Pull

_log = structlog.get_logger(__name__)

#: a leader that comes and goes reads no list; looks for what is due so often
CHECK_S: Final = 60.0
#: after trouble: doubling from CHECK_S
LONGEST_PAUSE_S: Final = 3600.0
#: so many troubled rounds in a row are told to a person
FAILING_AFTER: Final = 3


class Lists(Protocol):
    """See `rotord.providers.suppression_list.HttpLists`."""

    name: str
    of_domains: bool
    batch: int

    def keys(self, domains: Sequence[str]) -> list[ListKey]:
        """Name the lists."""

    async def page(self, key: ListKey, span: Span, cursor: str) -> Page | Unclear | Trouble:
        """Read one page."""

    async def add(self, domain: str, entries: Sequence[Entry]) -> Added | Unclear | Trouble:
        """Add some."""


class ListStore(Protocol):
    """See `rotord.db.list_sync`; a store that only weighs what would be done shows a plan."""

    async def carried(self, provider: str) -> list[Carried]:
        """List the domains that go by it."""

    async def begin(self, provider: str, key: ListKey, every_s: float) -> Pull | None:
        """Begin or go on with a pass."""

    async def take(self, provider: str, key: ListKey, span: Span, page: Page) -> int:
        """Suppress whom a page lists."""

    async def pull_fault(self, provider: str, key: ListKey, fault: str, *, anew: bool) -> None:
        """Write down a fault."""

    async def due(self, key: PushKey, limit: int) -> Due | None:
        """Read what waits to be added."""

    async def pushed(self, key: PushKey, upto: int, fault: str = "") -> None:
        """Write down how far it was."""

    async def failing(self, provider: str, reason: str) -> None:
        """Raise the alert."""

    async def works(self, provider: str) -> None:
        """Resolve it."""


class Read(NamedTuple):
    """What a pass over one list saw. `new`: rows, one a client; `complete`: to its last page."""

    key: ListKey
    entries: int
    new: int
    others: int
    fault: str = ""
    complete: bool = True


class Sent(NamedTuple):
    """What was added to one list."""

    key: PushKey
    taken: int
    refused: int
    fault: str = ""


class Round(NamedTuple):
    """One provider's. `trouble`: why it was broken off."""

    read: list[Read]
    sent: list[Sent]
    trouble: Trouble | None = None


class ListSync:
    """`reasons`: what is added to their lists. `every_s`: from the begin of a pass to the next. `most_pages`: of a list at once."""

    def __init__(
        self, store: ListStore, lists: Mapping[str, Lists], reasons: Sequence[str], every_s: float, most_pages: int = MOST_PAGES
    ) -> None:
        self._most_pages = most_pages
        self._store = store
        self._lists = lists
        self._reasons = reasons
        self._every_s = every_s
        #: what could not be read is left alone until then, on the loop's clock
        self._later: dict[tuple[str, ListKey], float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`. What is under way is cut off: a page or an addition may be repeated."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._serve(lists, stop), name=f"lists-{lists.name}") for lists in self._lists.values()]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _serve(self, lists: Lists, stop: asyncio.Event) -> None:
        failures, pause_s = 0, CHECK_S
        while not await wait(stop, pause_s):
            done = await self.round(lists)
            _say(lists.name, done)
            if done.trouble is None:
                if failures >= FAILING_AFTER:
                    await until_done(partial(self._store.works, lists.name), "alert")
                failures, pause_s = 0, CHECK_S
                continue
            failures += 1
            pause_s = min(LONGEST_PAUSE_S, CHECK_S * 2.0 ** min(failures - 1, 20))
            if done.trouble.lasting:
                failures, pause_s = max(failures, FAILING_AFTER), LONGEST_PAUSE_S
            elif done.trouble.wait_s is not None:
                pause_s = min(LONGEST_PAUSE_S, max(pause_s, done.trouble.wait_s))
            if failures >= FAILING_AFTER:
                await until_done(partial(self._store.failing, lists.name, done.trouble.reason), "alert")

    async def round(self, lists: Lists) -> Round:
        """Read what is due, then add what waits."""
        read = await self.read(lists)
        return read if read.trouble is not None else (await self.add(lists))._replace(read=read.read)

    async def read(self, lists: Lists) -> Round:
        """Suppress whom their lists name, as far as they are due."""
        done = Round([], [])
        carried = await until_done(partial(self._store.carried, lists.name), "lists")
        domains = [one.domain for one in carried if one.is_active]
        for key in lists.keys(domains) if domains else ():
            read, trouble = await self._pull(lists, key)
            done.read.extend(read)
            if trouble is not None:
                return done._replace(trouble=trouble)
        return done

    async def add(self, lists: Lists) -> Round:
        """Add what is new here to their lists."""
        done = Round([], [])
        for push in self._pushes(lists, await until_done(partial(self._store.carried, lists.name), "lists")):
            sent, trouble = await self._push(lists, push)
            done.sent.extend(sent)
            if trouble is not None:
                return done._replace(trouble=trouble)
        return done

    async def _pull(self, lists: Lists, key: ListKey) -> tuple[list[Read], Trouble | None]:
        loop = asyncio.get_running_loop()
        if loop.time() < self._later.get((lists.name, key), 0.0):
            return [], None
        pull = await until_done(partial(self._store.begin, lists.name, key, self._every_s), "lists")
        if pull is None:
            return [], None
        seen: Counter[str] = Counter()
        cursor = pull.cursor
        for _ in range(self._most_pages):
            page = await lists.page(key, pull.span, cursor)
            if isinstance(page, Unclear | Trouble):
                anew = isinstance(page, Unclear)
                await until_done(partial(self._store.pull_fault, lists.name, key, page.reason, anew=anew), "lists")
                if anew:
                    self._later[lists.name, key] = loop.time() + self._every_s
                read = Read(key, seen["entries"], seen["new"], seen["others"], page.reason, complete=False)
                return [read], None if isinstance(page, Unclear) else page
            new = await until_done(partial(self._store.take, lists.name, key, pull.span, page), "lists")
            seen.update(entries=len(page.entries), new=new, others=page.others)
            cursor = page.following
            if not cursor:
                break
        return [Read(key, seen["entries"], seen["new"], seen["others"], complete=not cursor)], None

    def _pushes(self, lists: Lists, carried: Sequence[Carried]) -> list[PushKey]:
        """What goes to which list: on an account that several clients share, nothing of one client's. A disabled one may be back."""
        active = [one for one in carried if one.is_active]
        clients = {one.client for one in carried}
        if lists.of_domains:
            places = [(one.domain, scope) for one in active for scope in (one.client, "")]
        else:
            places = [("", scope) for scope in ((*clients, "") if len(clients) == 1 else ("",)) if active]
        return [PushKey(lists.name, domain, scope, reason) for domain, scope in places for reason in self._reasons]

    async def _push(self, lists: Lists, key: PushKey) -> tuple[list[Sent], Trouble | None]:
        taken, refused, fault = 0, 0, ""
        while (due := await until_done(partial(self._store.due, key, lists.batch), "lists")) is not None:
            added = await lists.add(key.domain, due.entries) if due.entries else None
            if isinstance(added, Unclear | Trouble):
                sent = Sent(key, taken, refused, added.reason)
                return [sent], added if isinstance(added, Trouble) else None
            if added is not None:
                taken, refused = taken + added.taken, refused + len(added.refused)
                fault = added.refused[-1] if added.refused else fault
            await until_done(partial(self._store.pushed, key, due.upto, fault), "lists")
        return [Sent(key, taken, refused, fault)] if taken or refused else [], None


def _say(provider: str, done: Round) -> None:
    for read in done.read:
        if read.fault:
            _log.warning("list_not_read", provider=provider, list=read.key.name, domain=read.key.domain, reason=read.fault)
        elif read.new or read.others:
            _log.info(
                "list_read",
                provider=provider,
                list=read.key.name,
                domain=read.key.domain,
                entries=read.entries,
                suppressed=read.new,
                left_out=read.others,
            )
    for sent in done.sent:
        if sent.taken or sent.fault:
            _log.info(
                "list_added_to",
                provider=provider,
                domain=sent.key.domain,
                client=sent.key.client or None,
                suppressions=sent.taken,
                refused=sent.refused,
                reason=sent.fault or None,
            )
