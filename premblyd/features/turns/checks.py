"""What `premblyd check` says of `once` and `order`."""

from collections.abc import Iterator

from premblyd.config.models import Config
from premblyd.features.turns.settings import ONCE, ORDER


def promises(settings: Config) -> Iterator[str]:
    """Yield the actions that have them."""
    if names := [action.name for action in settings.actions if ONCE.of(action)]:
        yield f"Once for each reference and outcome: {', '.join(names)}."
    if names := [action.name for action in settings.actions if ORDER.of(action)]:
        yield f"In the order of receipt for each reference: {', '.join(names)}."


PROMISES = (promises,)
