"""`python -m rotord`."""

import sys

from rotord.cli import main

if __name__ == "__main__":
    sys.exit(main())
