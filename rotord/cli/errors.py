"""What a command could not do, in words for the person who typed it."""

from __future__ import annotations


class CommandError(Exception):
    """Ends the command: each line goes to stderr as a sentence, `code` is the exit code (2: usage, configuration)."""

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.code = code
