"""Actions that accept nothing now: their deliveries are not claimed, and use up no attempts."""

from collections.abc import Callable


class Halts:
    """Which actions can't run now, and why, for whoever listens. Only the loop's thread uses it."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}  # by action
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change."""
        self._listeners.append(listener)

    def begin(self, action: str, reason: str) -> None:
        """Claim nothing more of an action, until `end`. It may be halted already, for another
        reason."""
        self.reasons[action] = reason
        self._changed()

    def end(self, action: str) -> None:
        """Claim deliveries of an action again."""
        self.reasons.pop(action, None)
        self._changed()

    def _changed(self) -> None:
        for listener in self._listeners:
            listener()
