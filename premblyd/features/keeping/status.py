"""What `premblyd status` says of what is kept and what has gone."""

from collections.abc import Iterator

from premblyd.cli.status import Part
from premblyd.features.keeping import keepstatus
from premblyd.features.keeping.keepstatus import KeepStatus
from premblyd.record.troubles.trouble import Situation


def _read(situation: Situation) -> KeepStatus:
    return keepstatus.at_a_glance(situation.database, situation.settings, situation.now_ms)


def _lines(situation: Situation) -> Iterator[str]:
    for title, text in keepstatus.lines(_read(situation), situation.settings):
        yield f"{title.capitalize()}: {text}."


STATUS = (Part("kept", _read, _lines),)
