"""The declared fleet: read from files, compared with the database, applied in one transaction, written out again."""

from rotord.fleet.database import apply, plan
from rotord.fleet.difference import Action, FleetPlan, Kind, Step, as_json, lines
from rotord.fleet.export import export
from rotord.fleet.model import DeclaredAddress, DeclaredClient, DeclaredDomain, FleetFile
from rotord.fleet.reading import FleetError, read

__all__ = [
    "Action",
    "DeclaredAddress",
    "DeclaredClient",
    "DeclaredDomain",
    "FleetError",
    "FleetFile",
    "FleetPlan",
    "Kind",
    "Step",
    "apply",
    "as_json",
    "export",
    "lines",
    "plan",
    "read",
]
