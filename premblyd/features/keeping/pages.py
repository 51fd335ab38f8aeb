"""On the overview: what is kept, and what has gone."""

from collections.abc import Mapping
from typing import Any

from premblyd.features.console.handler import Asked, Panel
from premblyd.features.keeping import shown
from premblyd.store.engine import Database


def kept(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return what is kept, and that in words."""
    glance = shown.at_a_glance(database, asked.config, asked.now_ms)
    return {"kept": glance}, {"kept": list(shown.lines(glance, asked.config))}


PANELS = (Panel(page="/", template="kept.html", find=kept, is_last=True),)
