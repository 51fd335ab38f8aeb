"""What can happen to the store."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.base import Occurrence


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUnavailable(Occurrence):
    """The database can't commit any more, or for another reason than before."""

    event: ClassVar[str] = "store.unavailable"
    level: ClassVar[Level] = "error"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRecovered(Occurrence):
    """The database commits again."""

    event: ClassVar[str] = "store.recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOperationFailed(Occurrence):
    """An operation on the database raised, by a fault of ours."""

    event: ClassVar[str] = "store.operation_failed"
    level: ClassVar[Level] = "error"
    cause: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLogRemoved(Occurrence):
    """Somebody removed the database's write-ahead log."""

    event: ClassVar[str] = "store.log_removed"
    level: ClassVar[Level] = "error"
    saved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFileReplaced(Occurrence):
    """Somebody removed or replaced the database's file. `kept`: where all is that was in it, or
    None, for a `reason`."""

    event: ClassVar[str] = "store.file_replaced"
    level: ClassVar[Level] = "error"
    kept: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLogSetAside(Occurrence):
    """The write-ahead log beside the database's file belongs to another one. It is `kept`."""

    event: ClassVar[str] = "store.log_set_aside"
    level: ClassVar[Level] = "error"
    kept: str
