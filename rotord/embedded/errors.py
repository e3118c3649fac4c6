"""The one error of this package."""


class EmbeddedPostgresError(Exception):
    """The embedded database cannot run; the text says why and what to do, and is meant for the operator."""
