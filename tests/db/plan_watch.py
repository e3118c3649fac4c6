"""What the server really did: auto_explain's report of every statement, those inside of triggers among them."""

import json
from collections.abc import Awaitable, Collection, Iterator
from typing import Any

from asyncpg import Connection

EXPLAIN_EVERYTHING = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_format = 'json';
SET auto_explain.log_level = 'notice';
SET auto_explain.log_nested_statements = on;
"""


class PlanWatch:
    """The plans of what this connection runs, from `watch` on."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []

    async def watch(self, connection: Connection) -> None:
        await connection.execute(EXPLAIN_EVERYTHING)
        connection.add_log_listener(self._on_message)

    def _on_message(self, _connection: Any, message: Any) -> None:
        _, found, plan = message.message.partition("plan:\n")
        if found:
            self.plans.append(json.loads(plan))

    async def of(self, connection: Connection, call: Awaitable[Any]) -> Any:
        """Await the call; its plans are here when this returns. A portal is reported when it is closed: the next simple query does."""
        self.plans.clear()
        answer = await call
        await connection.execute("SET auto_explain.log_min_duration = -1; SET auto_explain.log_min_duration = 0")
        return answer

    def scans(self, tables: Collection[str]) -> set[str]:
        """The indexes by which these tables were read, and "Seq Scan on ..."; what was planned but never run does not count."""
        found = set()
        for node in (node for plan in self.plans for node in _nodes(plan["Plan"]) if node["Actual Loops"]):
            index, table = node.get("Index Name"), node.get("Relation Name")
            if node["Node Type"] == "Seq Scan" and table in tables:
                found.add(f"Seq Scan on {table}")
            elif index is not None and index.startswith(tuple(f"{name}_" for name in tables)):
                found.add(index)
        return found

    def buffers(self) -> int:
        """Pages touched, in memory or on disk. What is nothing but a function is left out: its statements are reported by themselves."""
        roots = (plan["Plan"] for plan in self.plans if plan["Plan"]["Node Type"] != "Function Scan")
        return sum(root["Shared Hit Blocks"] + root["Shared Read Blocks"] for root in roots)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
