"""`rotord version`: which rotord this is."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from rotord.cli.arguments import add_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `version`."""
    parser = subparsers.add_parser("version", help="say which version this is")
    add_json(parser)
    parser.set_defaults(handler=_version)


def _version(arguments: Namespace) -> int:
    number = version("rotord")
    # nothing to escape in a version number, and the JSON library would cost a third of the start-up
    print(f'{{"version": "{number}"}}' if arguments.json else f"rotord {number}")
    return 0
