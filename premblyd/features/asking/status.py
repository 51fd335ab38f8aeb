"""What `premblyd status` says of the days that were compared with Prembly's log."""

from collections.abc import Iterator

from premblyd.cli.status import Part
from premblyd.features.asking import days
from premblyd.features.asking.days import Day
from premblyd.ground.words import counted
from premblyd.record.troubles.trouble import Situation


def _read(situation: Situation) -> list[Day]:
    return days.days(situation.database)


def _lines(situation: Situation) -> Iterator[str]:
    """Yield how many are complete, and of those that a night still asks for why they are not."""
    compared = _read(situation)
    if compared:
        complete = sum(each.complete for each in compared)
        told = (
            f"Compared with Prembly's log: {complete} of {counted(len(compared), 'day')}"
            " complete, up to"
        )
        yield f"{told} {compared[0].day}."
    for each in compared[: days.NIGHTS]:
        if each.needs_somebody:
            yield each.sentence


STATUS = (Part("days", _read, _lines, nothing=[]),)
