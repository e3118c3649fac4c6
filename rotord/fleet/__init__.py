"""The declared fleet: read from files, compared with the database, applied in one transaction, written out again."""

from rotord.fleet.model import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile
from rotord.fleet.reading import FleetError, read

__all__ = ["DeclaredAddress", "DeclaredClient", "DeclaredDomain", "FleetError", "FleetFile", "read"]
