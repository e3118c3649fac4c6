"""What rotord is told before it starts: one frozen object, read once from file, credentials and environment."""

from rotord.settings.model import (
    Alerts,
    Backup,
    Dkim,
    Engine,
    Http,
    Lease,
    Log,
    Reconcile,
    Settings,
)
from rotord.settings.providers import ProviderSettings, Sandbox, Smtp
from rotord.settings.sources import SettingsError, load

__all__ = [
    "Alerts",
    "Backup",
    "Dkim",
    "Engine",
    "Http",
    "Lease",
    "Log",
    "ProviderSettings",
    "Reconcile",
    "Sandbox",
    "Settings",
    "SettingsError",
    "Smtp",
    "load",
]
