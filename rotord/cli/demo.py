"""`rotord demo`: 3,000 messages from the example fleet to receivers on this machine, watched and audited."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shutil
import signal
import sys
from argparse import SUPPRESS
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

from rotord.cli.arguments import add_json, positive
from rotord.cli.errors import CommandError
from rotord.cli.output import plural, print_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

    from structlog.typing import FilteringBoundLogger

    from rotord.demo import Progress

ROWS: Final = 3000
#: where nobody watches a line being redrawn, one this often
PLAIN_EVERY_S: Final = 2.0
INTERRUPTED: Final = 130


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="send 3,000 messages from 1,200 addresses to receivers on this machine")
    parser.add_argument("--state", type=Path, default=Path(".rotord/demo"), metavar="DIR", help="default: .rotord/demo")
    # 3,000 is the promise; fewer are for tests
    parser.add_argument("--rows", type=positive, default=ROWS, help=SUPPRESS)
    add_json(parser)
    parser.set_defaults(handler=_demo)


async def _demo(arguments: Namespace) -> int:
    import asyncpg  # noqa: PLC0415 - `rotord --help` must not wait for it

    from rotord.cli.demo_report import document, short, show  # noqa: PLC0415
    from rotord.demo import DemoError, Place, PlaceError, play  # noqa: PLC0415
    from rotord.embedded import EmbeddedPostgresError  # noqa: PLC0415
    from rotord.fleet import FleetError  # noqa: PLC0415

    task, loop = cast("asyncio.Task[int]", asyncio.current_task()), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    place = Place(Path(os.path.abspath(arguments.state)))  # noqa: PTH100, ASYNC240 - no link is followed: it is shown as it was typed
    fleet_file = _example_fleet()
    screen = Show(sys.stderr if arguments.json else sys.stdout)
    screen.title(arguments.rows)
    screen.step("log", short(place.daemon_log))
    try:
        report = await play(place, fleet_file, arguments.rows, screen, _quiet_log())
    except asyncio.CancelledError:
        screen.end_line()
        print("rotord: interrupted; the daemon, the receivers and the database are ended", file=sys.stderr)
        return INTERRUPTED
    except (DemoError, EmbeddedPostgresError, FleetError) as error:
        screen.end_line()
        raise CommandError(str(error), code=2 if isinstance(error, PlaceError) else 1) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        screen.end_line()
        raise CommandError(f"the demo's database went away: {error}; start the demo again") from None
    screen.end_line()
    if arguments.json:
        print_json(document(report))
    else:
        show(report, place.config)
    return 0 if report.is_accounted_for else 1


def _example_fleet() -> Path:
    """The fleet file: of the clone, or as it was packed into the wheel."""
    package = Path(str(resources.files("rotord")))
    return next((file for file in (package / "demo" / "fleet.toml", package.parent / "config" / "fleet.toml") if file.is_file()), Path())


def _quiet_log() -> FilteringBoundLogger:
    import structlog  # noqa: PLC0415

    only_trouble = structlog.make_filtering_bound_logger(logging.WARNING)
    return cast("FilteringBoundLogger", structlog.wrap_logger(structlog.PrintLogger(sys.stderr), wrapper_class=only_trouble))


class Show:
    """The demo's screen: a line a step, then one line that is redrawn, or where that cannot be a plain one now and then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._bar = "━─" if "utf" in (stream.encoding or "").lower() else "#."
        self._is_open = False
        self._said_at = -math.inf

    def title(self, rows: int) -> None:
        """Say what is going to happen."""
        self._say(f"rotord demo: {plural(rows, 'message')} by the real daemon; nothing leaves this machine.")
        self._say("Each demo begins with an empty database, so that its limits count from 0.\n")

    def step(self, what: str, says: str) -> None:
        """Show a step."""
        self.end_line()
        self._say(f"  {what:<9} {says}")

    def progress(self, progress: Progress) -> None:
        """Show how it goes."""
        if not self._redraws:
            if progress.elapsed_s - self._said_at >= PLAIN_EVERY_S or progress.left == 0:
                self._said_at = progress.elapsed_s
                self._say(f"  {_numbers(progress)}")
            return
        width = shutil.get_terminal_size().columns
        line = f"  {_numbers(progress)}"
        room = min(30, width - len(line) - 3)
        if room > 5:  # noqa: PLR2004 - a shorter bar says nothing
            done = round(room * (progress.total - progress.left) / progress.total)
            line += f"  {self._bar[0] * done}{self._bar[1] * (room - done)}"
        self._stream.write(f"\r{line[: width - 1]}\x1b[K")
        self._stream.flush()
        self._is_open = True

    def end_line(self) -> None:
        """Leave the redrawn line as it is."""
        if self._is_open:
            self._say("")
            self._is_open = False

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


def _numbers(progress: Progress) -> str:
    rate = progress.sent / progress.elapsed_s if progress.elapsed_s else 0.0
    return (
        f"sent {progress.sent:>5,}  left {progress.left:>5,}  {rate:>4.0f}/s  "
        f"uncertain {progress.uncertain}  on the wire {progress.on_the_wire:>2} of {progress.slots}"
    )
