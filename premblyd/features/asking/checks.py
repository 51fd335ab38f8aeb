"""What `premblyd check` says of asking Prembly."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from premblyd.cli.check import LOOPBACK, PLACEHOLDER, Checked
from premblyd.config.models import Action, Config
from premblyd.features.asking.settings import CONFIRM, PENDING, PREMBLY
from premblyd.prembly import events

_PUBLIC_KEY = re.compile(r"(^|_)pk(_|$)", re.IGNORECASE)


def promises(settings: Config) -> Iterator[str]:
    """Yield that pending ones are asked for."""
    if PENDING.of(settings) is not None:
        yield "Asks Prembly for the results of pending verifications."


def conditions(action: Action) -> Iterator[str]:
    """Yield that an action runs for what Prembly confirms alone."""
    if CONFIRM.of(action):
        yield "confirmed by Prembly first"


def warnings(checked: Checked) -> Iterator[str]:
    """Yield what is odd about how Prembly is asked, and what for."""
    yield from _of_prembly(checked.settings)
    yield from _of_pending(checked.settings)


def _of_prembly(settings: Config) -> Iterator[str]:
    """Yield what is odd about whom and how Prembly is asked, without quoting a secret."""
    api = PREMBLY.of(settings)
    key = api.api_key.reveal() if api and api.api_key else ""
    if PLACEHOLDER.match(key):
        yield "prembly api_key: it is a placeholder; put your account's secret key there"
    elif _PUBLIC_KEY.search(key):
        yield "prembly api_key: it looks like the public key (…pk_…); the API takes the secret one"
    if api and api.url.startswith("http://") and urlsplit(api.url).hostname not in LOOPBACK:
        yield f"prembly: {api.url} is not https: the key and the answers are sent unencrypted"


def _of_pending(settings: Config) -> Iterator[str]:
    """Yield that nothing runs for what Prembly answers."""
    are_for = [action for action in settings.actions if events.matches(action.types, events.STATUS)]
    if PENDING.of(settings) is not None and not are_for:
        yield (
            f"pending: no action is for the type {events.STATUS}, so nothing runs for what Prembly"
            " answers: list it in an action's `types`"
        )


PROMISES = (promises,)
CONDITIONS = (conditions,)
WARNINGS = (warnings,)
