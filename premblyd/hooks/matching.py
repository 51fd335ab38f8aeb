"""Which actions an event is for."""

from collections.abc import Sequence
from typing import Any

from premblyd.config import Action
from premblyd.expressions import EvaluationError
from premblyd.logs import get_logger
from premblyd.prembly import payload
from premblyd.prembly.payload import Verdict

EVERY, MISSING, DEFAULT = "*", "missing", "default"
log = get_logger()


class Matching:
    """The actions of one configuration, by response code."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions
        words = {EVERY, MISSING, DEFAULT}
        self.named_codes = {
            code for action in actions for code in action.response_codes if code not in words
        }

    def match(
        self, endpoint: str, verified_by: str, verdict: Verdict, document: dict[str, Any] | None
    ) -> list[Action]:
        """Return the actions for an event, in the configuration's order. A `when` that fails
        counts as no, and is logged."""
        context: dict[str, Any] | None = None
        matched = []
        for action in self.by_code(verdict.response_code):
            if action.when is not None:
                context = context or payload.context(verdict, endpoint, verified_by, document)
                if not _agrees(action, context):
                    continue
            matched.append(action)
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


def _agrees(action: Action, context: dict[str, Any]) -> bool:
    try:
        answer = action.when.search(context) if action.when else True
    except EvaluationError as error:
        log.warning("action.when_failed", action=action.name, error=str(error))
        return False
    # false, null and empty mean no (JMESPath's truth: zero is true)
    return answer is not None and answer is not False and answer not in ("", [], {})
