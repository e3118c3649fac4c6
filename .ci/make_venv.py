"""Makes .venv from a lock: `python .ci/make_venv.py run` or `test`. Does nothing, quickly, if it is as the lock wants it.

Two of them at once wait for each other. A .venv that was moved, or whose Python is gone, is made anew.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Scripts carry the absolute path of their Python, so a .venv must know where it was made.
HERE = VENV / "rotord-root"
LOCKS = {"run": ROOT / ".ci" / "requirements.lock", "test": ROOT / ".ci" / "requirements-test.lock"}
# What a kind contains besides itself.
CONTAINS = {"run": ("run",), "test": ("run", "test")}


def main(kind: str) -> None:
    """Bring .venv to what `kind` of lock says."""
    directory = os.open(ROOT / ".ci", os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    if not _works():
        print(f"rotord: making {VENV.name} with Python {sys.version.split()[0]}", flush=True)
        venv.create(VENV, clear=True, with_pip=True)
    elif _is_current(kind):
        return
    print(f"rotord: installing {LOCKS[kind].relative_to(ROOT)}", flush=True)
    # Wheels only: a hash does not say what a source distribution runs while it is built. dkimpy, a test's, has no wheel.
    wheels = ("--only-binary=:all:", *(["--no-binary=dkimpy"] if kind == "test" else []))
    _pip("--require-hashes", "--no-deps", "--use-pep517", *wheels, "-r", str(LOCKS[kind]))
    _pip("--no-deps", "--no-index", "--no-build-isolation", "--editable", str(ROOT))
    HERE.write_text(str(VENV))
    for contained in CONTAINS[kind]:
        _marker(contained).write_text(_wanted(contained))


def _works() -> bool:
    """Whether .venv was not moved, and its Python runs and is new enough."""
    probe = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        if HERE.exists() and not VENV.samefile(HERE.read_text()):
            return False
        return subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        return False


def _is_current(kind: str) -> bool:
    try:
        return _marker(kind).read_text() == _wanted(kind)
    except FileNotFoundError:
        return False


def _wanted(kind: str) -> str:
    return hashlib.sha256(LOCKS[kind].read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def _marker(kind: str) -> Path:
    return VENV / f"rotord-installed-{kind}"


def _pip(*arguments: str) -> None:
    command = [PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *arguments]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603 (our own words)
        sys.exit("rotord: pip failed, see above")


if __name__ == "__main__":
    main(sys.argv[1])
