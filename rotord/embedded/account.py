"""Under which account PostgreSQL runs, and so where its files live: the server refuses to run as root.

    plain user                     as that user, in <state>/postgres
    root, user namespaces allowed  in a namespace that shows root as nobody, in <state>/postgres; works below /root (mode 700)
    root, none allowed             as nobody, in /var/lib/rotord/<digest of the state's path>, with a copy of the wheel there
                                   if nobody cannot reach it (a chroot, Docker's default seccomp profile)

Data that exists decides over what would be chosen today, so that a changed kernel setting never makes data vanish.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rotord.embedded.binaries import PostgresBinaries, wheel_version
from rotord.embedded.errors import EmbeddedPostgresError

# nobody: exists in every Debian's passwd, where initdb looks its user up.
_NOBODY: Final = 65534
_SHARED: Final = Path("/var/lib/rotord")
_NAMESPACE: Final = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
_AS_NOBODY: Final = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--")
# The kernel sends SIGINT, the server's clean end, when rotord's main thread is gone, however it went.
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "INT", "--")


@dataclass(frozen=True, slots=True)
class Account:
    """`home` holds data, socket and log; `prefix` goes before PostgreSQL's commands and execs them; `owner` is set if not us."""

    home: Path
    prefix: tuple[str, ...] = ()
    owner: int | None = None

    def make_dir(self, path: Path) -> None:
        """Make a directory that only the server's account (and root) may enter."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.give(path)

    def make_temporary_dir(self) -> Path:
        """Make one with a short path."""
        path = Path(tempfile.mkdtemp(prefix="rotord-"))
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Hand the path to the server's account."""
        if self.owner is not None:
            os.chown(path, self.owner, self.owner)


def homes(state_dir: Path) -> tuple[Path, Path]:
    """The two places where the files of this (absolute) state directory may be: inside it, and nobody's."""
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return state_dir / "postgres", _SHARED / f"embedded-{digest}"


async def choose_account(state_dir: Path) -> Account:
    """Pick by who we are, what the kernel allows, and where data already is."""
    account = await _choose_owner(state_dir)
    bound = (*account.prefix, *_DIES_WITH_US)
    return replace(account, prefix=bound) if await succeeds(*bound, "true") else account


async def _choose_owner(state_dir: Path) -> Account:
    own, shared = homes(state_dir)
    if os.geteuid() != 0:
        return Account(own)
    as_nobody = Account(shared, _AS_NOBODY, _NOBODY)
    if (shared / "data").exists():
        return as_nobody
    if await succeeds(*_NAMESPACE, "true"):
        return Account(own, _NAMESPACE)
    if (own / "data").exists():
        raise EmbeddedPostgresError(
            f"the data in {own} belongs to root, and this machine no longer allows user namespaces, without which "
            f"PostgreSQL cannot run for root: run rotord as a plain user that owns {state_dir}, or move the data: "
            f"mkdir -p {shared} && mv {own}/data {shared}/ && chown -R {_NOBODY}:{_NOBODY} {shared}"
        )
    if shutil.which("setpriv") is None:
        raise EmbeddedPostgresError("PostgreSQL cannot run as root here (no user namespaces, no setpriv): run rotord as a plain user")
    _SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    return as_nobody


async def reachable_binaries(account: Account, found: PostgresBinaries) -> PostgresBinaries:
    """The same programs, from a copy below /var/lib/rotord if the account cannot run them where they are."""
    # Asked by a program that is already that account's: setpriv itself still may what root may when it runs the next one.
    if account.owner is None or await succeeds(*account.prefix, "test", "-x", str(found.tool("postgres"))):
        return found
    wheel = found.wheel_dir
    if wheel is None:
        raise EmbeddedPostgresError(f"user {account.owner} may not run {found.bin_dir}/postgres: open its directories")
    copy = _SHARED / f"postgres-{wheel_version()}"
    if not copy.exists():
        await asyncio.to_thread(_copy_wheel, wheel, copy)
    return PostgresBinaries(copy / found.bin_dir.relative_to(wheel.parent), found.version)


def _copy_wheel(wheel: Path, copy: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix="copying-", dir=copy.parent))
    partial.chmod(0o755)
    # Side by side, as the programs' RPATH wants them.
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.parent / name, partial / name, symlinks=True)
    try:
        partial.rename(copy)
    except OSError:
        # Another rotord was faster.
        shutil.rmtree(partial)
        if not copy.exists():
            raise


async def succeeds(*command: str) -> bool:
    """Whether the command can be run and exits with 0."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    return await process.wait() == 0
