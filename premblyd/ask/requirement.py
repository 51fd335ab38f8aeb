"""What an action asks of an event, to be asked again of what Prembly's answer states."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from premblyd.config.models import Action
from premblyd.expressions import Budget, EvaluationError
from premblyd.prembly import conditions
from premblyd.prembly.payload import Verdict, Webhook
from premblyd.routing import Routing, is_yes


@dataclass(frozen=True, slots=True)
class ActionRequirement:
    """What `action` asks of `webhook`: the response code by the configuration that `routing` is
    made of, and `when`."""

    action: Action
    webhook: Webhook
    routing: Routing
    _budget: Budget = field(default_factory=Budget)  # shared by all that is asked of one event

    @property
    def looks_at(self) -> Collection[str]:
        return conditions.names(self.action.when) if self.action.when else ()

    @property
    def may_be_unstated(self) -> Collection[str]:
        return self.action.confirm.unstated if self.action.confirm else ()

    def takes_code(self, code: str | None) -> bool:
        return self.routing.takes_code(self.action, code)

    def says_yes(self, verdict: Verdict) -> bool:
        """Return whether `when` says yes; one that fails says no."""
        when = self.action.when
        if when is None:
            return True
        event = replace(self.webhook, verdict=verdict)
        # A body that nothing looks at is not read: it may have 16 MiB, and this may be the loop.
        event.keep_document(self.webhook.document if "body" in self.looks_at else None)
        try:
            return is_yes(when.search(event.context(), self._budget))
        except EvaluationError:
            return False
