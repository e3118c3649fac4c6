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
from rotord.settings.providers import ApiProvider, Mailgun, ProviderSettings, Sandbox, Sendgrid, Smtp, Smtp2go
from rotord.settings.sources import SettingsError, load

__all__ = [
    "Alerts",
    "ApiProvider",
    "Backup",
    "Dkim",
    "Engine",
    "Http",
    "Lease",
    "Log",
    "Mailgun",
    "ProviderSettings",
    "Reconcile",
    "Sandbox",
    "Sendgrid",
    "Settings",
    "SettingsError",
    "Smtp",
    "Smtp2go",
    "load",
]
