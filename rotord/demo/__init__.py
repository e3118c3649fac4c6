"""The demo: the example fleet, local receivers and the real daemon, from an empty outbox to an audited one.

Owns a state directory of its own and what is in it. Promises nothing that it does not check: what the receivers wrote down
is compared with the outbox, row by row. Prints nothing: rotord.cli.demo is its screen.

    place     the directory: whose it is, the configuration in it, what a new run removes
    rows      the messages, and what must become of each
    children  the receiver and the daemon as processes, which end with the demo however it ends
    scene     the order of it all
    audit     the receivers' logs against the outbox
    usage     the fullest hour of each limit, by the receivers' logs
"""

from rotord.demo.audit import Audit, Fault
from rotord.demo.children import DemoError, PlaceError
from rotord.demo.place import Place
from rotord.demo.scene import Progress, Report, Screen, play
from rotord.demo.usage import Use

__all__ = ["Audit", "DemoError", "Fault", "Place", "PlaceError", "Progress", "Report", "Screen", "Use", "play"]
