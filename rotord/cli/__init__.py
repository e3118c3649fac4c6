"""The commands of `rotord`, one module a group; `main` is the console script.

Owns the command line and its exit codes: 0 done, 1 failed or found something, 2 usage or bad configuration, 130
interrupted. A command's module is imported only when its name is on the command line, so that `rotord version` starts
at once. It has `register(subparsers)`, which adds its parser with `set_defaults(handler=...)`; a handler takes the
parsed arguments and returns the exit code, or a coroutine of it. What it cannot do it raises as `CommandError`;
anything else that escapes is a bug.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rotord.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: command -> its module here, in the order of `rotord --help`; one whose module is not installed is not offered
COMMANDS: Final = {
    "run": "run",
    "migrate": "migrate",
    "check": "check",
    "fleet": "fleet",
    "status": "status",
    "why": "why",
    "pause": "pause",
    "resume": "pause",
    "send-test": "send_test",
    "app": "app",
    "suppress": "suppress",
    "uncertain": "uncertain",
    "forget": "forget",
    "events": "events",
    "retry": "bulk",
    "cancel": "bulk",
    "provider": "provider",
    "campaign": "campaign",
    "demo": "demo",
    "version": "version",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors go to stderr, one line each."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser(words).parse_args(words)
    except SystemExit as end:  # argparse has printed the help (0) or what is wrong (2)
        return end.code if isinstance(end.code, int) else 2
    if any(word != word.encode(errors="replace").decode() for word in words):
        print("rotord: the command line is not UTF-8", file=sys.stderr)
        return 2
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except CommandError as error:
        for line in error.lines:
            print(f"rotord: {line}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `rotord ... | head` has read enough; the interpreter's own flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _run(arguments: argparse.Namespace) -> int:
    result = arguments.handler(arguments)
    return int(asyncio.run(result) if inspect.iscoroutine(result) else result)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser of the commands named in `words`, or of all if there is none (help, a mistyped name)."""
    parser = argparse.ArgumentParser(
        prog="rotord", description="Sends mail from a Postgres outbox under exact limits, nothing lost, nothing twice."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: $ROTORD_CONFIG, then /etc/rotord/rotord.toml")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    installed = {name: module for name, module in COMMANDS.items() if find_spec(f"rotord.cli.{module}")}
    named = [module for name, module in installed.items() if name in words]
    for module in dict.fromkeys(named or installed.values()):
        import_module(f"rotord.cli.{module}").register(subparsers)
    return parser
