"""On the overview: what is kept, and what has gone."""

from collections.abc import Mapping
from typing import Any

from premblyd.features.console.handler import Asked, Panel
from premblyd.features.keeping import keepstatus
from premblyd.store.engine import Database


def kept(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what is kept, and that in words."""
    glance = keepstatus.at_a_glance(database, asked.config, asked.now_ms)
    return {"kept": glance}, {"kept": list(keepstatus.lines(glance, asked.config))}


PANELS = (Panel(page="/", template="kept.html", find=kept, is_last=True),)
