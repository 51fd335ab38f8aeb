"""Which actions a webhook is for.

A webhook's response code chooses actions by their `response_codes`, and its type by their `types`;
of these, an action with a `when` is for the webhook only if that expression says yes. The receiver
asks this for each webhook, `check` and `explain` show it, and a replay asks it again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

from premblyd.config.models import Action
from premblyd.ground.expressions import Budget, EvaluationError
from premblyd.ground.telemetry import tell
from premblyd.prembly import events
from premblyd.prembly.payload import Webhook

EVERY, MISSING, DEFAULT = _WORDS = ("*", "missing", "default")


class Chosen(NamedTuple):
    """The actions for a webhook, in the configuration's order; and of those whose `when` failed,
    which counts as no, why."""

    actions: Sequence[Action]
    failed: Mapping[str, str] = MappingProxyType({})


class Routing:
    """The actions of one configuration, by type and response code."""

    def __init__(self, actions: Sequence[Action]) -> None:
        listed: dict[str, set[int]] = {}  # by code or word, the places of actions
        for place, action in enumerate(actions):
            for code in action.response_codes:
                listed.setdefault(code, set()).add(place)
        self.named_codes = listed.keys() - set(_WORDS)
        # Under which word or code `response_codes` may list a code, beside `*`: else DEFAULT.
        self._words = {None: MISSING} | {code: code for code in self.named_codes}
        # Bounded, since a sender may make up types. Prembly's own are few. Neither of them knows
        # this object, so nothing outlives it: the daemon hardly ever looks for cycles.
        self._of_word = lru_cache(maxsize=256)(partial(_that_list, actions, listed))
        self._of_type = lru_cache(maxsize=256)(partial(_that_match, self._of_word))

    def actions_for(self, webhook: Webhook, *, is_trial: bool = False) -> Sequence[Action]:
        """Return the actions for a webhook, in the configuration's order. A `when` that fails
        counts as no, and is logged. Raise TrialTooLongError, and log nothing, when the expressions
        take more work than a trial may."""
        chosen = self.chosen(webhook, is_trial=is_trial)
        for name, error in chosen.failed.items():
            tell("action.when_failed", action=name, error=error)
        return chosen.actions

    def chosen(self, webhook: Webhook, *, is_trial: bool = False) -> Chosen:
        """Return what `actions_for` does, with what failed, and log nothing."""
        verdict = webhook.verdict
        actions = self._of_type(self._words.get(verdict.response_code, DEFAULT), verdict.type)
        if not any(action.when for action in actions):
            return Chosen(actions)
        budget = Budget(is_trial=is_trial)  # shared by all of them
        context = webhook.context()
        failed: dict[str, str] = {}  # texts: an error would keep the body in memory by its frames
        chosen = []
        for action in actions:
            try:
                if action.when is None or is_yes(action.when.search(context, budget)):
                    chosen.append(action)
            except EvaluationError as error:
                failed[action.name] = str(error)
        return Chosen(chosen, failed)

    def actions_for_code(self, code: str | None) -> tuple[Action, ...]:
        """Return the actions that a response code chooses, before any `types` and `when`; None is
        missing."""
        return self._of_word(self._words.get(code, DEFAULT))

    def why_not(self, action: Action, webhook: Webhook, budget: Budget | None = None) -> str | None:
        """Return why `webhook` is not for `action`, as `actions_for` decides; None: it is. Nothing
        is logged."""
        verdict = webhook.verdict
        reason = self.why_not_told(action, verdict.type, verdict.response_code)
        if reason is not None or action.when is None:
            return reason
        try:
            is_for = is_yes(action.when.search(webhook.context(), budget))
        except EvaluationError as error:
            return f"`when` failed for this event, which counts as no: {error}"
        return None if is_for else f"`when` is false: {action.when.text}"

    def why_not_told(self, action: Action, type_: str | None, code: str | None) -> str | None:
        """Return why `action` is not for webhooks of this type with this response code; None: it
        may be. (A type that is None has not been told, and excludes nothing.)"""
        if type_ is not None and not events.matches(action.types, type_):
            return f"type {type_} is not in [{', '.join(action.types)}]"
        return self._why_not_code(action, code)

    def takes_code(self, action: Action, code: str | None) -> bool:
        """Return whether `action`, which may be of another version of the configuration, is for
        webhooks with this response code; None is missing."""
        listed = action.response_codes
        if code is None:
            return EVERY in listed or MISSING in listed
        is_named = code in listed and code not in _WORDS
        is_default = DEFAULT in listed and code not in self.named_codes
        return EVERY in listed or is_named or is_default

    def _why_not_code(self, action: Action, code: str | None) -> str | None:
        if self.takes_code(action, code):
            return None
        listed = ", ".join(action.response_codes)
        if code is None:
            return f"the response code is missing, which is not in [{listed}]"
        reason = f"response code {code} is not in [{listed}]"
        if DEFAULT in action.response_codes:
            reason += "; another action names it, so `default` does not apply"
        return reason


def _that_list(
    actions: Sequence[Action], listed: Mapping[str, set[int]], word: str
) -> tuple[Action, ...]:
    """Return the actions that list `word` or every code, in the configuration's order."""
    places = listed.get(EVERY, set()) | listed.get(word, set())
    return tuple(actions[place] for place in sorted(places))


def _that_match(
    of_word: Callable[[str], tuple[Action, ...]], word: str, type_: str
) -> tuple[Action, ...]:
    """Return those of `of_word` that are for webhooks of a type."""
    return tuple(action for action in of_word(word) if events.matches(action.types, type_))


def is_yes(found: Any) -> bool:
    """Return JMESPath's truth: false, null and empty mean no, and zero is true."""
    return found is not None and found is not False and found not in ("", [], {})
