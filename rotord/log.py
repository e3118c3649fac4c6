"""Log lines: JSON for machines, columns for people, and nothing in either that must not be read by a stranger.

Owns: the set-up of structlog and of the standard library's logging (asyncpg, aiohttp, aiosmtplib speak through it), and what
every line passes on its way out:
- fields named like secrets, and bodies, are dropped;
- the values of known secrets (register_secrets) are masked wherever they stand, tracebacks too;
- above debug the local part of an e-mail address is masked, save the fleet's own (fields `address`, `sender`) and Message-IDs;
- a text is cut at MAX_TEXT characters.

Does not decide what is worth a line. Takes no settings: the composition root calls `configure`.
"""

from __future__ import annotations

import logging
import re
import sys
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from structlog.typing import EventDict, Processor, WrappedLogger

# A traceback of a deep task tree is about 6,000 characters.
MAX_TEXT: Final = 16_000
_MAX_DEPTH: Final = 5
MASK: Final = "***"

_DROPPED: Final = re.compile(
    r"password|passwd|secret|token|api_?key|private_?key|webhook_key|signing_key|authorization|cookie|credential|dsn"
    r"|^(body(_text|_html)?|mime|attachments|payload)$",
    re.IGNORECASE,
)
#: Fields whose e-mail-like value is no recipient: the fleet's addresses, and identifiers that only look like one.
_OWN: Final = frozenset({"address", "sender", "message_id", "provider_message_id"})
_EMAIL: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@(?=[\w-]+(?:\.[\w-]+)+)")
# A shorter "secret" would mask half of every line.
_SHORTEST_SECRET: Final = 4


class _Secrets:
    """The known secret values, as one pattern."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        for value in values:
            # repr() of a text with line ends, as in a traceback or in JSON, holds another spelling of it
            self._values |= {spelled for spelled in (value, repr(value)[1:-1]) if len(spelled) >= _SHORTEST_SECRET}
        longest_first = sorted(self._values, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def clear(self) -> None:
        self._values.clear()
        self._pattern = None

    def mask(self, text: str) -> str:
        return self._pattern.sub(MASK, text) if self._pattern else text


_secrets: Final = _Secrets()


def register_secrets(values: Iterable[str]) -> None:
    """Mask these values from now on, wherever they stand. Values shorter than 4 characters cannot be."""
    _secrets.add(values)


def forget_secrets() -> None:
    """Mask none any more; for tests, which are many in one process."""
    _secrets.clear()


def redact(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Clean one line; the last processor before it is written, so that nothing is added behind it."""
    recipients = method == "debug" or event.get("level") == "debug"
    return {
        _clean_text(str(name), True): _clean(value, recipients or name in _OWN, 0)
        for name, value in event.items()
        if not _is_dropped(str(name))
    }


def _clean(value: object, recipients: bool, depth: int) -> Any:
    match value:
        case float() if not isfinite(value):
            return repr(value)  # JSON has no word for it
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict() | list() | tuple() | set() | frozenset():
            return _clean_inside(value, recipients, depth + 1) if depth < _MAX_DEPTH else "..."
        case _:
            return _clean_text(value if isinstance(value, str) else _words(value), recipients)


@lru_cache(maxsize=1024)  # the names that code logs are few, and every line asks for each of its own
def _is_dropped(name: str) -> bool:
    return _DROPPED.search(name) is not None


def _words(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  whatever a foreign __repr__ does, the line is worth more
        return f"<{type(value).__name__} without words>"


def _clean_inside(values: Iterable[object], recipients: bool, depth: int) -> Any:
    if not isinstance(values, dict):
        return [_clean(entry, recipients, depth) for entry in values]
    return {
        _clean_text(str(name), recipients): _clean(entry, recipients, depth) for name, entry in values.items() if not _is_dropped(str(name))
    }


def _clean_text(text: str, recipients: bool) -> str:
    text = _secrets.mask(text)
    if not recipients and "@" in text:
        text = _EMAIL.sub(f"{MASK}@", text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"


def _drop_record(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


def configure(format: str = "auto", level: str = "info") -> None:  # noqa: A002  the setting's name
    """Set both loggings up, to stderr. `format` is json, console or auto (console on a terminal); may be called again."""
    as_console = format == "console" or (format == "auto" and sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # before redact, so that a traceback is a text that can be masked
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if as_console
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_record, redact, renderer], keep_exc_info=False)
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    logging.captureWarnings(True)
    # its report of a line that could not be written would show the line unmasked
    logging.raiseExceptions = False
    # aiohttp writes a line a request, with the path: an unsubscribe token is in it
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # It logs a traceback for each mail that its heuristics fall over; core/bounces.py takes that for "names nobody".
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # a logger made before configure() must follow it
        cache_logger_on_first_use=False,
    )
    sys.excepthook = _crashed


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ended the process, so that its traceback is masked like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("rotord").critical("crashed", exc_info=(kind, error, trace))
