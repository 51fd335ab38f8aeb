"""Which actions a webhook is for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from premblyd.config.models import Action
from premblyd.expressions import Budget, EvaluationError
from premblyd.logs import get_logger
from premblyd.prembly.webhook import Webhook

EVERY, MISSING, DEFAULT = "*", "missing", "default"
log = get_logger()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a webhook is for an action: `why_not` is None if it is."""

    action: Action
    why_not: str | None


class Matching:
    """The actions of one configuration, by response code."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions
        words = {EVERY, MISSING, DEFAULT}
        self.named_codes = {
            code for action in actions for code in action.response_codes if code not in words
        }

    def match(self, webhook: Webhook, budget: Budget | None = None) -> list[Action]:
        """Return the actions for a webhook, in the configuration's order. A `when` that fails
        counts as no, and is logged. Raise MustBeMovedError, and log nothing, when `budget` is a
        trial's and too small."""
        chosen = self.by_code(webhook.verdict.response_code)
        if all(action.when is None for action in chosen):
            return chosen
        budget = budget or Budget()
        context = webhook.context()
        failed: dict[str, str] = {}
        matched = []
        for action in chosen:
            try:
                if action.when is None or _is_yes(action.when.search(context, budget)):
                    matched.append(action)
            except EvaluationError as error:
                failed[action.name] = str(error)
        for name, reason in failed.items():
            log.warning("action.when_failed", action=name, error=reason)
        return matched

    def by_code(self, code: str | None) -> list[Action]:
        """Return the actions that a response code chooses, before any `when`; None is missing."""
        if code is None:
            chosen = {EVERY, MISSING}
        elif code in self.named_codes:
            chosen = {EVERY, code}
        else:
            chosen = {EVERY, DEFAULT}
        return [action for action in self._actions if chosen.intersection(action.response_codes)]

    def judge(self, webhook: Webhook) -> list[Judgement]:
        """Return for every action whether `webhook` is for it, as `match` decides, and why not.
        Nothing is logged."""
        budget = Budget()
        return [
            Judgement(action, self.why_not(action, webhook, budget)) for action in self._actions
        ]

    def why_not(self, action: Action, webhook: Webhook, budget: Budget | None = None) -> str | None:
        """Return why `webhook` is not for `action`; None: it is."""
        refused = self.refuse_code(action, webhook.verdict.response_code)
        if refused is not None or action.when is None:
            return refused
        try:
            is_for = _is_yes(action.when.search(webhook.context(), budget))
        except EvaluationError as error:
            return f"`when` failed for this event, which counts as no: {error}"
        return None if is_for else f"`when` is false: {action.when.text}"

    def refuse_code(self, action: Action, code: str | None) -> str | None:
        """Return why `action` is not for events with this response code; None: it may be."""
        if action in self.by_code(code):
            return None
        listed = ", ".join(action.response_codes)
        if code is None:
            return f"the response code is missing, which is not in [{listed}]"
        reason = f"response code {code} is not in [{listed}]"
        if DEFAULT in action.response_codes:
            reason += "; another action names it, so it is no default"
        return reason


def _is_yes(answer: Any) -> bool:
    """Return JMESPath's truth: false, null and empty mean no, and zero is true."""
    return answer is not None and answer is not False and answer not in ("", [], {})
