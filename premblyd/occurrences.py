"""Whatever can happen, each kind a type: what premblyd's log is made of. See telemetry.tell."""

from dataclasses import dataclass
from typing import ClassVar, dataclass_transform

from premblyd.logs.lines import Level


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """Something that happened. `event` names it in the log, which shows its fields in their order,
    save those that are None by default and now.

    A field `cause` is an exception: the log shows its type and frames, never its text.
    """

    event: ClassVar[str]
    level: ClassVar[Level] = "info"

    def __init_subclass__(cls, event: str | None = None, level: Level | None = None) -> None:
        dataclass(frozen=True, kw_only=True)(cls)
        if event is not None:
            cls.event = event
        if level is not None:
            cls.level = level

    def log_level(self) -> Level:
        """Return how grave this one is."""
        return self.level


class Fault(Occurrence, level="error"):
    """Something raised, by a fault of ours."""

    cause: BaseException


class NotLogged(Occurrence, level="warning"):
    """More lines of one kind came in a minute than are written."""

    kind: str
    count: int


# Webhooks, hooks, the daemon


class _WebhookAnswered(Occurrence):
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


class WebhookReceived(_WebhookAnswered, event="webhook.received"):
    """A webhook is on the disk."""


class WebhookDuplicate(_WebhookAnswered, event="webhook.duplicate"):
    """A webhook came that was on the disk already."""


class WebhookRejected(Occurrence, event="webhook.rejected", level="warning"):
    """A request was refused, or broke off."""

    endpoint: str
    remote_ip: str
    reason: str
    body_bytes: int | None
    method: str | None = None
    path_characters: int | None = None
    hint: str | None = None


class RejectionsNotLogged(NotLogged, event="webhook.not_logged"):
    """Rejections."""


class WebhookOverloaded(Occurrence, event="webhook.overloaded", level="warning"):
    """A webhook was turned away because too much was in flight."""

    limit: str
    remote_ip: str


class WebhookUnavailable(Occurrence, event="webhook.unavailable", level="error"):
    """A webhook was turned away because the database could not keep it, or not in time."""

    endpoint: str
    remote_ip: str
    after_ms: int | None = None  # it was waited for so long; None: the database failed


class WebhookFailed(Fault, event="webhook.failed"):
    """A webhook was not stored."""

    endpoint: str


class FieldFailed(Occurrence, event="webhook.field_failed", level="warning"):
    """An expression of an endpoint's `fields` failed for an event."""

    endpoint: str
    field: str
    error: str


class WebhookTooComplex(Occurrence, event="webhook.too_complex", level="warning"):
    """A body has too many values to be read. It was stored."""

    endpoint: str
    body_bytes: int


class WhenFailed(Occurrence, event="action.when_failed", level="warning"):
    """An action's `when` failed for an event, which counts as no."""

    action: str
    error: str


class AttemptFinished(Occurrence, event="attempt.finished"):
    """A hook has run, and how that ended is stored."""

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


class LeaseLost(Occurrence, event="attempt.lease_lost", level="warning"):
    """The end of an attempt came too late: the delivery was another attempt's by then."""

    delivery: int
    attempt: int


class OrderMended(Occurrence, event="store.order_mended", level="warning"):
    """Deliveries waited for one that would not end, as somebody had changed the database."""

    count: int
    first: int


class StraysKilled(Occurrence, event="hook.strays_killed", level="warning"):
    """Hooks had left processes behind."""

    count: int


class HooksInterrupted(Occurrence, event="daemon.hooks_interrupted", level="warning"):
    """Hooks ran for longer than a stop waits."""

    count: int


class RunnerFailed(Fault, event="runner.failed"):
    """A runner raised."""

    action: str


class DispatcherFailed(Fault, event="dispatcher.failed"):
    """A round of the dispatcher or one delivery's work raised."""

    action: str | None = None


class DaemonStarted(Occurrence, event="daemon.started"):
    """Webhooks are taken from now on."""

    version: str
    listen: list[str]
    database: str
    endpoints: int
    actions: int
    migrated: list[str]
    recovered_deliveries: int
    killed_leftovers: int


class DaemonWasDown(Occurrence, event="daemon.was_down", level="warning"):
    """For more than an hour no webhook could be stored, and now they can."""

    down_since: str
    down_until: str
    minutes: int
    remedy: str


class DaemonNotStarted(Occurrence, event="daemon.not_started", level="critical"):
    """The start failed."""

    reason: str | None = None
    problems: int | None = None
    exit_code: int
    cause: BaseException | None = None


class SignalIgnored(Occurrence, event="daemon.signal_ignored", level="warning"):
    """A signal came that means nothing here. Each is told once."""

    signal: str


class DaemonStopping(Occurrence, event="daemon.stopping"):
    """No more webhooks are taken."""

    running_hooks: int


class DaemonStopped(Occurrence, event="daemon.stopped"):
    """All is closed."""


class DaemonFailed(Fault, event="daemon.failed", level="critical"):
    """One of the daemon's loops has ended: the daemon stops."""

    part: str


class DaemonWaits(Occurrence, event="daemon.waits", level="warning"):
    """The machine lacks what a part of the daemon needs now. It goes on by itself."""

    part: str
    lacks: str


class ListenIgnored(Occurrence, event="daemon.listen_ignored", level="warning"):
    """systemd's sockets are elsewhere than `listen` says, and are used."""

    listen: str
    used: list[str]
    remedy: str


class NotPublished(Occurrence, event="daemon.not_published", level="warning"):
    """The file that tells commands what runs here could not be written or removed."""

    reason: str | None


class ConfigReloaded(Occurrence, event="config.reloaded"):
    """The configuration was read again, and is used."""

    endpoints: int
    actions: int


class ConfigProblem(Occurrence, event="config.problem", level="error"):
    """Something is wrong in the configuration that was read again."""

    problem: str


class ReloadRefused(Occurrence, event="config.reload_refused", level="error"):
    """The configuration was read again, and the old one stays."""

    problems: int


class NeedsRestart(Occurrence, event="config.needs_restart", level="warning"):
    """A setting was changed that only a restart applies."""

    setting: str


class ClockJumped(Occurrence, event="clock.jumped", level="warning"):
    """Somebody set the clock, and what waits waits as long as before."""

    by_ms: int


# The store


class StoreUnavailable(Occurrence, event="store.unavailable", level="error"):
    """The database can't commit any more, or for another reason than before."""

    reason: str


class StoreRecovered(Occurrence, event="store.recovered"):
    """The database commits again."""


class StoreOperationFailed(Fault, event="store.operation_failed"):
    """An operation on the database raised."""


class StoreLogRemoved(Occurrence, event="store.log_removed", level="error"):
    """Somebody removed the database's write-ahead log."""

    saved: bool


class StoreFileReplaced(Occurrence, event="store.file_replaced", level="error"):
    """Somebody removed or replaced the database's file. `kept`: where all is that was in it, or
    None, for a `reason`."""

    kept: str | None
    reason: str | None = None


class StoreLogSetAside(Occurrence, event="store.log_set_aside", level="error"):
    """The write-ahead log beside the database's file belongs to another one. It is `kept`."""

    kept: str


# Several daemons on one database


class HostJoined(Occurrence, event="host.joined"):
    """This daemon works on a shared database, beside the hosts `others`."""

    name: str
    worker: str
    others: list[str]


class HostSeen(Occurrence, event="host.seen"):
    """Another host works on the database that this daemon had not seen before."""

    name: str
    worker: str


class HostLost(Occurrence, event="host.lost", level="error"):
    """Another host was not heard of for too long; what it ran was taken over."""

    name: str
    worker: str


class DeliveriesTakenOver(Occurrence, event="host.taken_over", level="warning"):
    """Deliveries that hosts ran which live no more are due again."""

    deliveries: int


class HostFenced(Occurrence, event="host.fenced", level="error"):
    """The others took this daemon for lost, and took over what it ran. It works again."""

    worker: str
    killed_processes: int


class HostLetGo(Occurrence, event="host.let_go", level="error"):
    """This daemon could not tell the others for too long that it lives, so that they start its
    hooks: it has ended them."""

    worker: str
    killed_processes: int


class HostCutOff(Occurrence, event="host.cut_off", level="warning"):
    """This daemon can't tell the others that it lives."""

    reason: str


class HostInTouch(Occurrence, event="host.in_touch"):
    """This daemon can tell the others again that it lives."""


class HostIsFirst(Occurrence, event="host.first"):
    """This daemon now does what one host alone does: it asks Prembly about what is pending, and
    sends alerts."""

    name: str


class HostsFailed(Fault, event="host.failed"):
    """Looking after the other hosts raised."""


# Asking Prembly


class InquiryAnswered(Occurrence, event="inquiry.answered"):
    """Prembly was asked, and what came of it."""

    purpose: str
    result: str
    event_id: int | None
    delivery: int | None = None
    stored_event_id: int | None = None
    reference: str | None
    http_status: int | None
    error: str | None
    answer_bytes: int | None
    duration_ms: int

    def log_level(self) -> Level:
        """Return `info` for what was to be expected."""
        return "info" if self.result in ("confirmed", "settled", "unsettled") else "warning"


class InquiriesRefused(Occurrence, event="inquiry.refused", level="error"):
    """Prembly refuses to answer as whom it is asked. It is asked again only after a while."""

    http_status: int
    pause_s: int
    remedy: str


class InquiriesPaused(Occurrence, event="inquiry.paused", level="warning"):
    """Prembly can't be asked, and is left alone for a while."""

    reason: str
    pause_s: int


class InquiriesResumed(Occurrence, event="inquiry.resumed"):
    """Prembly answers again."""


class PendingBegun(Occurrence, event="pending.begun"):
    """Events came while nothing was awaited, and are not settled yet: Prembly is asked."""

    count: int


class PendingSettled(Occurrence, event="pending.settled"):
    """What became of a verification was found by asking, or in the record before it was asked."""

    event_id: int
    settled_by: int
    reference: str | None


class PendingGivenUp(Occurrence, event="pending.given_up", level="warning"):
    """What became of a verification was not to be found out."""

    event_id: int
    reference: str | None
    ask_count: int
    error: str | None


class PendingFailed(Fault, event="pending.failed"):
    """Asking about what is awaited raised."""


# Telling people of trouble


class AlertSent(Occurrence, event="alert.sent", level="warning"):
    """An alert's hook has told people of trouble."""

    alert: str
    kinds: list[str]
    items: int


class AlertFailed(Occurrence, event="alert.failed", level="error"):
    """An alert's hook failed, so nobody was told. It is run again after a minute."""

    alert: str
    kinds: list[str]
    outcome: str
    exit_code: int | None
    http_status: int | None
    error: str | None


class AlertsFailed(Fault, event="alert.look_failed"):
    """A look for trouble raised."""


# The console


class ConsoleNotOpened(Occurrence, event="console.not_opened", level="error"):
    """The console can't listen. Webhooks are taken all the same."""

    reason: str


class ConsoleSignedIn(Occurrence, event="console.signed_in"):
    """Somebody has signed in to the console."""

    session: int
    remote_ip: str


class ConsoleSignInFailed(Occurrence, event="console.sign_in_failed", level="warning"):
    """Somebody could not sign in: by a spent link, a wrong password, or after too many of them."""

    how: str
    remote_ip: str


class ConsoleRefused(Occurrence, event="console.refused", level="warning"):
    """The console refused a request: for its host, its origin or its form's token."""

    reason: str
    remote_ip: str


class ConsoleNotLogged(NotLogged, event="console.not_logged"):
    """Lines of the console."""


class ConsoleFailed(Fault, event="console.failed"):
    """A page of the console failed."""
