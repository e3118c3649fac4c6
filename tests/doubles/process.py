"""An API double as a process of its own: `python -m tests.doubles.process KIND DIRECTORY [OPTIONS as JSON]`, prints its port.

It obeys lines of JSON on its standard input: {"chances": [[share, fault], ...]}, {"pattern": [fault, ...]}, {"always": fault},
{"outage_s": 60}, {"lag_s": 1}; a fault is an object, {} is none.
What it took is in its truth log, whoever is killed.
"""

import asyncio
import json
import sys
from collections import deque
from itertools import cycle
from pathlib import Path

from tests.doubles.http_api import Fault
from tests.doubles.mailgun import MailgunDouble
from tests.doubles.sendgrid import SendgridDouble
from tests.doubles.smtp2go import Smtp2goDouble

KINDS = {"mailgun": MailgunDouble, "sendgrid": SendgridDouble, "smtp2go": Smtp2goDouble}


async def obey(double, order):
    if "chances" in order:
        double.chances = [(share, Fault(**fault)) for share, fault in order["chances"]]
    if "pattern" in order:
        double.pattern = cycle([Fault(**fault) for fault in order["pattern"]])
    if "always" in order:
        double.always = Fault(**order["always"])
    if "lag_s" in order:
        double.happenings.lag_s = order["lag_s"]
    if "outage_s" in order:
        async with double.outage():
            await asyncio.sleep(order["outage_s"])


async def main(kind, directory, options):
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with KINDS[kind](Path(directory), **options) as double:
        # a long run's mails are on disk
        double.mails = deque(maxlen=10)
        if kind == "mailgun":
            double.forms = deque(maxlen=10)
        else:
            double.contents = deque(maxlen=10)
        print(double.port, flush=True)
        async with asyncio.TaskGroup() as group:
            async for line in reader:
                group.create_task(obey(double, json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}))
