"""What several hosts promise on top, and what they don't."""

from typing import Any

from tests.sim.model import Model


class HostsModel(Model):
    """See Model."""

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(
            sql.replace("?", "%s"), values
        ).fetchall()
        return found
