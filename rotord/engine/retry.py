"""Database calls that are tried again while the database is away. What is not the database's absence is an error and is raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from rotord.db.connect import transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
_log = structlog.get_logger(__name__)
# Longest pause between tries: below the lease's time to live, so that a leader notices a database that came back.
_LONGEST_S = 3.0


async def until_done(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Call until the database answers. For calls that may be repeated when their answer was lost."""
    try:
        return await call()  # nearly always enough, at a tenth of the price
    except Exception as error:
        if not transient(error):
            raise

    def warn(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        _log.warning("database_unavailable", during=what, tries=state.attempt_number, error=repr(error))

    retrying = AsyncRetrying(
        retry=retry_if_exception(transient),
        wait=wait_random_exponential(multiplier=0.1, max=_LONGEST_S),
        before_sleep=warn,
    )

    async def attempt() -> T:
        return await call()

    return await retrying(attempt)
