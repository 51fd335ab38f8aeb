"""Steps of the writer that fail while others work: somebody has locked a table that they need, or
revoked a right on it. They get transactions of their own, so that webhooks are still stored."""

import time
from collections.abc import Iterable

# A step counts as failing for so long after its last failure, whatever has worked since: steps do
# several things, and not all of them need what is locked.
FAILING_S = 3.0


class FailingSteps:
    """The steps that fail, by their numbers. The writer's thread notes them, and the loop reads
    them."""

    def __init__(self) -> None:
        self._failed: dict[int, tuple[str, float]] = {}  # never changed, but exchanged
        self._is_turn_of_others = False

    @property
    def reason(self) -> str | None:
        """Why a step fails; None: none does."""
        return next((reason for reason, _ in self._failed.values()), None)

    def __bool__(self) -> bool:
        return bool(self._failed)

    def __contains__(self, step: int) -> bool:
        return step in self._failed

    def failed(self, steps: Iterable[int], reason: str) -> None:
        """Note that these steps failed while others may work."""
        now = time.monotonic()
        self._failed = {**self._failed, **dict.fromkeys(steps, (reason, now))}

    def forget(self) -> None:
        """Forget the steps that have not failed lately."""
        since = time.monotonic() - FAILING_S
        self._failed = {step: failed for step, failed in self._failed.items() if failed[1] > since}

    def choose(self, steps: Iterable[int]) -> set[int]:
        """Return which of the waiting steps the next transaction may take: all that work, or one
        that fails, in turn."""
        waiting = list(steps)
        sound = {step for step in waiting if step not in self._failed}
        failing = [step for step in waiting if step in self._failed]
        if failing and (self._is_turn_of_others or not sound):
            self._is_turn_of_others = False
            return {failing[0]}
        self._is_turn_of_others = bool(failing)
        return sound
