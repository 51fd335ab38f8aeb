"""Whatever can happen, each kind a type: what premblyd's log is made of. See telemetry.tell."""

from dataclasses import dataclass
from typing import ClassVar

from premblyd.logs.lines import Level
from premblyd.occurrences.alerts import AlertFailed as AlertFailed
from premblyd.occurrences.alerts import AlertSent as AlertSent
from premblyd.occurrences.alerts import AlertsFailed as AlertsFailed
from premblyd.occurrences.base import Occurrence as Occurrence
from premblyd.occurrences.console import ConsoleFailed as ConsoleFailed
from premblyd.occurrences.console import ConsoleNotLogged as ConsoleNotLogged
from premblyd.occurrences.console import ConsoleNotOpened as ConsoleNotOpened
from premblyd.occurrences.console import ConsoleRefused as ConsoleRefused
from premblyd.occurrences.console import ConsoleSignedIn as ConsoleSignedIn
from premblyd.occurrences.console import ConsoleSignInFailed as ConsoleSignInFailed
from premblyd.occurrences.hosts import DeliveriesTakenOver as DeliveriesTakenOver
from premblyd.occurrences.hosts import HostCutOff as HostCutOff
from premblyd.occurrences.hosts import HostFenced as HostFenced
from premblyd.occurrences.hosts import HostInTouch as HostInTouch
from premblyd.occurrences.hosts import HostIsFirst as HostIsFirst
from premblyd.occurrences.hosts import HostJoined as HostJoined
from premblyd.occurrences.hosts import HostLost as HostLost
from premblyd.occurrences.hosts import HostsFailed as HostsFailed
from premblyd.occurrences.inquiries import InquiriesPaused as InquiriesPaused
from premblyd.occurrences.inquiries import InquiriesRefused as InquiriesRefused
from premblyd.occurrences.inquiries import InquiriesResumed as InquiriesResumed
from premblyd.occurrences.inquiries import InquiryAnswered as InquiryAnswered
from premblyd.occurrences.inquiries import PendingBegun as PendingBegun
from premblyd.occurrences.inquiries import PendingFailed as PendingFailed
from premblyd.occurrences.inquiries import PendingGivenUp as PendingGivenUp
from premblyd.occurrences.inquiries import PendingSettled as PendingSettled
from premblyd.occurrences.store import StoreFileReplaced as StoreFileReplaced
from premblyd.occurrences.store import StoreLogRemoved as StoreLogRemoved
from premblyd.occurrences.store import StoreLogSetAside as StoreLogSetAside
from premblyd.occurrences.store import StoreOperationFailed as StoreOperationFailed
from premblyd.occurrences.store import StoreRecovered as StoreRecovered
from premblyd.occurrences.store import StoreUnavailable as StoreUnavailable

# Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class _WebhookAnswered(Occurrence):
    optional: ClassVar[frozenset[str]] = frozenset({"doubt"})
    event_id: int
    key: str
    endpoint: str
    kind: str
    type: str
    response_code: str | None
    outcome: str
    reference: str | None
    actions: int
    body_bytes: int
    verified_by: str
    remote_ip: str
    duration_ms: float
    doubt: str | None = None  # why one that says VERIFIED has another outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReceived(_WebhookAnswered):
    """A webhook is on the disk."""

    event: ClassVar[str] = "webhook.received"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDuplicate(_WebhookAnswered):
    """A webhook came that was on the disk already."""

    event: ClassVar[str] = "webhook.duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRejected(Occurrence):
    """A request was refused, or broke off."""

    event: ClassVar[str] = "webhook.rejected"
    level: ClassVar[Level] = "warning"
    optional: ClassVar[frozenset[str]] = frozenset({"method", "path_characters", "hint"})
    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    method: str | None = None
    path_characters: int | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionsNotLogged(Occurrence):
    """More rejections of one kind came in a minute than are told."""

    event: ClassVar[str] = "webhook.not_logged"
    level: ClassVar[Level] = "warning"
    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOverloaded(Occurrence):
    """A webhook was turned away because too much was in flight."""

    event: ClassVar[str] = "webhook.overloaded"
    level: ClassVar[Level] = "warning"
    limit: str
    remote_ip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookUnavailable(Occurrence):
    """A webhook was turned away because the database could not keep it, or not in time."""

    event: ClassVar[str] = "webhook.unavailable"
    level: ClassVar[Level] = "error"
    endpoint: str
    remote_ip: str
    after_ms: int | None = None  # it was waited for so long; None: the database failed


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFailed(Occurrence):
    """A webhook was not stored, by a fault of ours."""

    event: ClassVar[str] = "webhook.failed"
    level: ClassVar[Level] = "error"
    endpoint: str
    cause: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldFailed(Occurrence):
    """An expression of an endpoint's `fields` failed for an event."""

    event: ClassVar[str] = "webhook.field_failed"
    level: ClassVar[Level] = "warning"
    endpoint: str
    field: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTooComplex(Occurrence):
    """A body has too many values to be read. It was stored."""

    event: ClassVar[str] = "webhook.too_complex"
    level: ClassVar[Level] = "warning"
    endpoint: str
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenFailed(Occurrence):
    """An action's `when` failed for an event, which counts as no."""

    event: ClassVar[str] = "action.when_failed"
    level: ClassVar[Level] = "warning"
    action: str
    error: str


# Hooks


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished(Occurrence):
    """A hook has run, and how that ended is stored."""

    event: ClassVar[str] = "attempt.finished"
    event_id: int
    delivery: int
    action: str
    attempt: int
    outcome: str
    state: str
    exit_code: int | None
    http_status: int | None
    error: str | None
    reference: str | None
    duration_ms: int

    def log_level(self) -> Level:
        """Return `info` for success, and for what another event has made pointless."""
        is_well = self.outcome == "succeeded" or self.state in ("cancelled", "skipped")
        return "info" if is_well else "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(Occurrence):
    """The end of an attempt came too late: the delivery was another attempt's by then."""

    event: ClassVar[str] = "attempt.lease_lost"
    level: ClassVar[Level] = "warning"
    delivery: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMended(Occurrence):
    """Deliveries waited for one that would not end, as somebody had changed the database."""

    event: ClassVar[str] = "store.order_mended"
    level: ClassVar[Level] = "warning"
    count: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StraysKilled(Occurrence):
    """Hooks had left processes behind."""

    event: ClassVar[str] = "hook.strays_killed"
    level: ClassVar[Level] = "warning"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HooksInterrupted(Occurrence):
    """Hooks ran for longer than a stop waits."""

    event: ClassVar[str] = "daemon.hooks_interrupted"
    level: ClassVar[Level] = "warning"
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerFailed(Occurrence):
    """A runner raised, by a fault of ours."""

    event: ClassVar[str] = "runner.failed"
    level: ClassVar[Level] = "error"
    action: str
    cause: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherFailed(Occurrence):
    """A round of the dispatcher or one delivery's work raised, by a fault of ours."""

    event: ClassVar[str] = "dispatcher.failed"
    level: ClassVar[Level] = "error"
    optional: ClassVar[frozenset[str]] = frozenset({"action"})
    action: str | None = None
    cause: BaseException


# The daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStarted(Occurrence):
    """Webhooks are taken from now on."""

    event: ClassVar[str] = "daemon.started"
    version: str
    listen: list[str]
    database: str
    endpoints: int
    actions: int
    migrated: list[str]
    recovered_deliveries: int
    killed_leftovers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonWasDown(Occurrence):
    """For more than an hour no webhook could be stored, and now they can."""

    event: ClassVar[str] = "daemon.was_down"
    level: ClassVar[Level] = "warning"
    down_since: str
    down_until: str
    minutes: int
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonNotStarted(Occurrence):
    """The start failed."""

    event: ClassVar[str] = "daemon.not_started"
    level: ClassVar[Level] = "critical"
    optional: ClassVar[frozenset[str]] = frozenset({"reason", "problems", "cause"})
    reason: str | None = None
    problems: int | None = None
    exit_code: int
    cause: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalIgnored(Occurrence):
    """A signal came that means nothing here. Each is told once."""

    event: ClassVar[str] = "daemon.signal_ignored"
    level: ClassVar[Level] = "warning"
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopping(Occurrence):
    """No more webhooks are taken."""

    event: ClassVar[str] = "daemon.stopping"
    running_hooks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStopped(Occurrence):
    """All is closed."""

    event: ClassVar[str] = "daemon.stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFailed(Occurrence):
    """One of the daemon's loops has ended, by a fault of ours: the daemon stops."""

    event: ClassVar[str] = "daemon.failed"
    level: ClassVar[Level] = "critical"
    part: str
    cause: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonWaits(Occurrence):
    """The machine lacks what a part of the daemon needs now. It goes on by itself."""

    event: ClassVar[str] = "daemon.waits"
    level: ClassVar[Level] = "warning"
    part: str
    lacks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenIgnored(Occurrence):
    """systemd's sockets are elsewhere than `listen` says, and are used."""

    event: ClassVar[str] = "daemon.listen_ignored"
    level: ClassVar[Level] = "warning"
    listen: str
    used: list[str]
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPublished(Occurrence):
    """The file that tells commands what runs here could not be written or removed."""

    event: ClassVar[str] = "daemon.not_published"
    level: ClassVar[Level] = "warning"
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReloaded(Occurrence):
    """The configuration was read again, and is used."""

    event: ClassVar[str] = "config.reloaded"
    endpoints: int
    actions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem(Occurrence):
    """Something is wrong in the configuration that was read again."""

    event: ClassVar[str] = "config.problem"
    level: ClassVar[Level] = "error"
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadRefused(Occurrence):
    """The configuration was read again, and the old one stays."""

    event: ClassVar[str] = "config.reload_refused"
    level: ClassVar[Level] = "error"
    problems: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsRestart(Occurrence):
    """A setting was changed that only a restart applies."""

    event: ClassVar[str] = "config.needs_restart"
    level: ClassVar[Level] = "warning"
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockJumped(Occurrence):
    """Somebody set the clock, and what waits waits as long as before."""

    event: ClassVar[str] = "clock.jumped"
    level: ClassVar[Level] = "warning"
    by_ms: int
