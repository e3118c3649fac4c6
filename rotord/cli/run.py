"""`rotord run`: the daemon."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from rotord.cli.errors import CommandError

if TYPE_CHECKING:
    from argparse import Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction) -> None:  # type: ignore[type-arg]
    """Add the command."""
    parser = subparsers.add_parser("run", help="run the daemon until SIGTERM")
    parser.add_argument("--standby", action="store_true", help="wait behind the leader of another node")
    parser.set_defaults(handler=_handle)


def _handle(arguments: Namespace) -> int:
    # Until the daemon listens for it: nothing has begun, so the end is a good one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    import uvloop  # noqa: PLC0415 - `rotord --help` must not wait for the daemon's imports

    from rotord import log  # noqa: PLC0415
    from rotord.cli.database import load_settings  # noqa: PLC0415
    from rotord.daemon import run  # noqa: PLC0415
    from rotord.embedded import EmbeddedPostgresError  # noqa: PLC0415
    from rotord.opening import StartError  # noqa: PLC0415

    settings = load_settings(arguments)
    if arguments.standby and settings.database.is_embedded:
        raise CommandError("--standby needs a database that both nodes reach: set database.url", code=2)
    log.configure(settings.log.format, settings.log.level)
    log.register_secrets(settings.secrets())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(settings))
    except (StartError, EmbeddedPostgresError) as error:
        raise CommandError(str(error)) from None
