"""`rotord pause` and `rotord resume`: a person's word on who may send, in force within a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rotord.cli.arguments import add_json
from rotord.cli.database import open_database
from rotord.cli.errors import CommandError
from rotord.cli.output import print_json
from rotord.db import control
from rotord.db.control import Target
from rotord.handwritten import nearest

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction
    from collections.abc import Iterable

KINDS: Final = [kind.value for kind in Target]
FORMS: Final = "all | client SLUG | stream CLIENT/STREAM | campaign CLIENT/CAMPAIGN | domain NAME | address EMAIL | provider NAME"

#: how to take back `disabled`, the word that a resume does not undo
ENABLE: Final = {
    Target.CLIENT: "UPDATE rotord.clients SET status = 'active' WHERE slug = '{}'",
    Target.DOMAIN: "UPDATE rotord.domains SET status = 'active' WHERE name = '{}'",
    Target.CAMPAIGN: "UPDATE rotord.campaigns SET status = 'active' WHERE client || '/' || name = '{}'",
    Target.ADDRESS: "UPDATE rotord.addresses SET status = 'active' WHERE email = '{}'",
}


def register(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add `pause` and `resume`."""
    for command, does in (("pause", "stop sending for"), ("resume", "send again for")):
        parser = subparsers.add_parser(
            command,
            help=f"{does} all, a client, stream, campaign, domain, address or provider",
            description=f"{does.capitalize()}: {FORMS}. In force within a second; nothing on the wire is called back.",
        )
        parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
        parser.add_argument("name", metavar="NAME", nargs="?", default="", help="which one; `all` has none")
        add_json(parser)
        parser.set_defaults(handler=_change, command=command)


async def _change(arguments: Namespace) -> int:
    kind, name = Target(arguments.kind), str(arguments.name)
    name = name.lower() if kind in {Target.DOMAIN, Target.ADDRESS} else name
    _check_shape(kind, name)
    async with open_database(arguments) as session:
        if kind is Target.PROVIDER:
            _check_provider(name, session.settings.providers)
        try:
            act = control.pause if arguments.command == "pause" else control.resume
            change = await act(session.conn, kind, name)
        except control.UnknownNameError as error:
            raise CommandError(f"there is no {kind} {name}{nearest(name, error.known)}") from None
        except control.DisabledError as error:
            how = ENABLE[kind].format(name.replace("'", "''"))
            if kind is Target.CAMPAIGN:
                raise CommandError(f"{error}, which resume does not undo; for what is inserted from now on run: {how}") from None
            raise CommandError(
                f"{kind} {name} is disabled, which resume does not undo: "
                f"set its status to active in the fleet file and apply it, or run: {how}"
            ) from None
    if arguments.json:
        print_json({"kind": kind, "name": name, "before": change.before, "status": change.after})
    else:
        print(_sentence(kind, name, change))
    return 0


def _check_shape(kind: Target, name: str) -> None:
    if kind is Target.ALL and name:
        raise CommandError("`all` has no name", code=2)
    if kind is not Target.ALL and not name:
        raise CommandError(f"name the {kind}", code=2)
    if kind in {Target.STREAM, Target.CAMPAIGN} and not all(name.partition("/")):
        raise CommandError(f"a {kind} is named CLIENT/{kind.upper()}, such as acme/spring", code=2)


def _check_provider(name: str, configured: Iterable[str]) -> None:
    known = sorted(configured)
    if name not in known:
        hint = nearest(name, known) or (f"; it has {', '.join(known)}" if known else "")
        raise CommandError(f"the configuration has no provider {name}{hint}")


def _sentence(kind: Target, name: str, change: control.Change) -> str:
    what = "everything" if kind is Target.ALL else f"{kind} {name}"
    if change.after in control.STRONGER:
        return f"{what} is {change.after} already and sends nothing; left so"
    if not change.changed:
        return f"{what} was {'not paused' if change.after == 'active' else 'paused'} already"
    sentence = f"{what} is paused" if change.after == "paused" else f"{what} is resumed"
    if change.created:
        sentence += " (no message has named it yet)"
    if change.after == "active" and change.health not in {None, "healthy", "suspicious"}:
        sentence += f"; rotord itself holds it: {change.health}, {change.health_reason or 'without a reason'}"
    return sentence
