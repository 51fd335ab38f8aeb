"""What can happen among daemons that share a database."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.base import Occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class HostJoined(Occurrence):
    """This daemon works on a shared database, beside the hosts `others`."""

    event: ClassVar[str] = "host.joined"
    name: str
    worker: str
    others: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSeen(Occurrence):
    """Another host works on the database that this daemon had not seen before."""

    event: ClassVar[str] = "host.seen"
    name: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLost(Occurrence):
    """Another host was not heard of for too long; what it ran was taken over."""

    event: ClassVar[str] = "host.lost"
    level: ClassVar[Level] = "error"
    name: str
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesTakenOver(Occurrence):
    """Deliveries that hosts ran which live no more are due again."""

    event: ClassVar[str] = "host.taken_over"
    level: ClassVar[Level] = "warning"
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFenced(Occurrence):
    """The others took this daemon for lost, and took over what it ran. It works again."""

    event: ClassVar[str] = "host.fenced"
    level: ClassVar[Level] = "error"
    worker: str
    killed_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLetGo(Occurrence):
    """This daemon could not tell the others for too long that it lives, so that they start its
    hooks: it has ended them."""

    event: ClassVar[str] = "host.let_go"
    level: ClassVar[Level] = "error"
    worker: str
    killed_processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCutOff(Occurrence):
    """This daemon can't tell the others that it lives."""

    event: ClassVar[str] = "host.cut_off"
    level: ClassVar[Level] = "warning"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInTouch(Occurrence):
    """This daemon can tell the others again that it lives."""

    event: ClassVar[str] = "host.in_touch"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostIsFirst(Occurrence):
    """This daemon now does what one host alone does: it asks Prembly about what is pending, and
    sends alerts."""

    event: ClassVar[str] = "host.first"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostsFailed(Occurrence):
    """Looking after the other hosts raised, by a fault of ours."""

    event: ClassVar[str] = "host.failed"
    level: ClassVar[Level] = "error"
    cause: BaseException
