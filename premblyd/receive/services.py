"""What every exchange works with: one set for the whole receiver."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from premblyd.clock import Clock
from premblyd.config.models import Config, Endpoint
from premblyd.queue.inbox import Inbox
from premblyd.receive.evidence import Evidence
from premblyd.receive.health import Health
from premblyd.receive.load import Load
from premblyd.receive.recognition import Recogniser
from premblyd.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration as exchanges use it. A reload makes another one, and an exchange keeps
    the one that it began with."""

    config: Config
    endpoints: Mapping[str, Endpoint]  # by path
    routing: Routing


@dataclass(slots=True, kw_only=True)
class Services:
    """The receiver's parts, as it gives them to each exchange."""

    inbox: Inbox
    health: Health
    clock: Clock
    load: Load
    evidence: Evidence
    recogniser: Recogniser
    wake: Callable[[], None]  # tells the dispatcher that there are deliveries
    settings: Settings = field(init=False)
    is_stopping: bool = False  # every answer asks its client to close the connection
