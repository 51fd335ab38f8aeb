"""The warnings of `premblyd check`: what is valid in a configuration and probably not meant."""

import difflib
import functools
import itertools
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from premblyd.config.hooks import Hook
from premblyd.config.inquiries import Pending, PremblyApi
from premblyd.config.models import Action, Config, Console, Endpoint
from premblyd.config.secrets import SecretPlaces
from premblyd.expressions import ExpressionError
from premblyd.prembly import conditions, events, payload, samples
from premblyd.prembly.payload import Outcome, Webhook
from premblyd.routing import DEFAULT, EVERY, MISSING, Routing
from premblyd.run.ending import longest_ms
from premblyd.run.shell import DEFAULT_PATH

_PUBLIC_KEY = re.compile(r"(^|_)pk(_|$)", re.IGNORECASE)
MAX_HELD_MS = 24 * 3_600_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SECRET_KEY = re.compile(r"(^|_)sk(_|$)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<|(placeholder|change|replace|insert|your|put|todo|xxx)", re.IGNORECASE)
# A part of a path with under 16 letters and digits in a row, or with letters alone.
_GUESSABLE = re.compile(r"(?!.*(?=[A-Za-z0-9]*[0-9])[A-Za-z0-9]{16}).*")
_HIDDEN = re.compile(r"(?<![\w.~/-])/(?:home|root|run/user)/[^\s'\";|&<>()]+")  # by ProtectHome=
_SANDBOX = ("LoadState", "ProtectHome", "PrivateTmp")


def warnings(settings: Config, path: Path) -> Iterator[str]:
    """Yield what is probably not meant in `settings`, which were read from the file at `path`."""
    in_the_open = (
        place
        for place, secret in settings.secrets.items()
        if secret.source == "text" and not place.endswith(", url")  # most URLs are no secrets
    )
    if any(in_the_open) and _others_read(path):
        yield f"{path} holds secrets and others can read it: chmod o-r {path}"
    for endpoint in settings.endpoints:
        yield from _of_endpoint(endpoint)
    places = SecretPlaces(path.absolute().parent)
    for place, secret in settings.secrets.items():
        if secret.source != "text" and secret.reveal() != secret.reveal().strip():
            yield f"{place}: the secret ({secret.source}) has white space around it"
        if secret.source == "text" and any(map(os.path.isfile, places.files(secret.reveal()))):
            # Not its name: it may be the key, and the file an accident.
            yield (
                f"{place}: this text is taken for the secret itself, and it is the name of a file"
                " here; did you mean {file: …}?"
            )
    if settings.prembly:
        yield from _of_prembly(settings.prembly)
    if settings.console:
        yield from _of_console(settings.console)
    for action in settings.actions:
        yield from _of_codes(action)
        yield from _of_expressions(action, settings.endpoints)
        yield from _of_order(action, settings)
    yield from _of_types(settings)
    yield from _of_trust(settings)
    if settings.total_concurrency < len(settings.actions):
        yield (
            f"concurrency is {settings.total_concurrency} and there are"
            f" {len(settings.actions)} actions: slow ones may delay others. With at least"
            f" {len(settings.actions)} each could always run a hook"
        )
    for action in settings.actions:
        cluster = action.concurrency.cluster
        if cluster is not None and cluster < action.concurrency.host:
            yield (
                f"action {action.name}: on one host {action.concurrency.host} hooks may run, but on"
                f" all hosts {cluster}: no host runs more"
            )
    if settings.pending:
        yield from _of_pending(settings.pending, settings.actions)
    yield from _of_files(settings)


def _others_read(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)


def _of_endpoint(endpoint: Endpoint) -> Iterator[str]:
    name = f"endpoint {endpoint.name}"
    if endpoint.scheme == "public-key":
        yield (
            f"{name}: the public-key scheme proves nothing about the body;"
            " use hmac-sha256 if your account sends it"
        )
    first_with: dict[str, str] = {}
    for key, text in endpoint.key_texts.items():
        if doubt := _of_key(text):
            yield f"{name}, key {key}: {doubt}"
        if text in first_with:
            yield f"{name}: the keys {first_with[text]} and {key} are the same"
        first_with.setdefault(text, key)


def _of_key(text: str) -> str | None:
    """Return what is odd about a key of Prembly's, without quoting it."""
    if _PLACEHOLDER.match(text):
        return "it is a placeholder; put your account's public key there"
    if _SECRET_KEY.search(text):
        return "it looks like the secret key (…sk_…); webhooks are signed with the public one"
    if not text.isascii() or any(letter.isspace() or letter in "'\"" for letter in text):
        return "it has quotes, white space or letters that Prembly's keys don't have"
    return None


def _of_prembly(api: PremblyApi) -> Iterator[str]:
    """Yield what is odd about whom and how Prembly is asked, without quoting a secret."""
    if api.api_key and (text := api.api_key.reveal()):
        if _PLACEHOLDER.match(text):
            yield "prembly api_key: it is a placeholder; put your account's secret key there"
        elif _PUBLIC_KEY.search(text):
            yield (
                "prembly api_key: it looks like the public key (…pk_…); the API takes the secret"
                " one"
            )
    host = urlsplit(api.url).hostname
    if api.url.startswith("http:") and host not in _LOOPBACK:
        yield f"prembly: {api.url} is not https, so that the key and the answers go in the open"


def _of_console(console: Console) -> Iterator[str]:
    """Yield that the console may be reached from elsewhere, where cookies go in the open."""
    host = console.listen.host
    is_own = console.listen.unix_path or host in _LOOPBACK or host.startswith("127.")
    if not is_own:
        yield (
            f"console: it listens on {console.listen}, without TLS: whoever sees the network sees"
            " its pages and may take over a session. Listen on 127.0.0.1, and reach it by ssh -L or"
            " behind a proxy with TLS"
        )
    url = urlsplit(console.url or "")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        yield f"console: {console.url} is not https, so that its pages go in the open"


def _of_codes(action: Action) -> Iterator[str]:
    for code in action.response_codes:
        if code not in payload.CODES and code not in (EVERY, MISSING, DEFAULT):
            yield f"action {action.name}: {_of_code(code)}"


def _of_order(action: Action, settings: Config) -> Iterator[str]:
    """Yield how long, or how unseen, one delivery of an action with `order` may hold up others."""
    if action.order is None:
        return
    name = f"action {action.name}"
    retried_ms = longest_ms(action.retry)
    if retried_ms > MAX_HELD_MS:
        hours = retried_ms / 3_600_000
        yield (
            f"{name} has `order`, and a delivery that fails is tried again for up to"
            f" {hours:,.0f} hours: so long the others of its reference wait. Make `retry` shorter"
        )
    is_told = any(
        trigger.kind in ("held", "dead") for alert in settings.alerts for trigger in alert.on
    )
    if action.order.then == "wait" and not is_told:
        yield (
            f"{name} has `order` with `then: wait`, and no alert is on `held` or `dead`: nobody"
            " hears when a dead delivery holds up the others of its reference"
        )


def _of_types(settings: Config) -> Iterator[str]:
    """Yield which types an action names wrongly, or may run for without being meant to."""
    routing = Routing(settings.actions)
    webhooks = [
        webhook
        for webhook in _sample_webhooks(settings.endpoints)
        if not events.is_about_verification(webhook.verdict.type)
    ]
    for action in settings.actions:
        name = f"action {action.name}"
        for pattern in action.types:
            if doubt := _of_type(pattern):
                yield f"{name}: {doubt}"
        chosen = _chosen_types(action, routing, webhooks)
        others = [] if _is_meant(action) else chosen
        if action.confirm and chosen:
            yield (
                f"{name} has `confirm`, and Prembly can't be asked for {', '.join(chosen)}: such"
                f" deliveries would end dead; write {_FOR_VERIFICATIONS}"
            )
        elif others:
            yield (
                f"{name} has no `types`, and would run for events that say nothing about a person's"
                f" verification too ({', '.join(others)}): write {_FOR_VERIFICATIONS},"
                ' or types: ["*"] if that is meant'
            )
    if any(len(endpoint.keys) > 1 for endpoint in settings.endpoints):
        yield from _of_sandbox(settings.actions)


def _of_sandbox(actions: Sequence[Action]) -> Iterator[str]:
    """Yield the actions whose `when` takes the key that signed for the sandbox or the live one,
    where that does not hold."""
    for action in actions:
        looks_at_key = action.when and "verified_by" in conditions.names(action.when)
        live = [
            type_
            for type_ in events.MEANINGS
            if events.matches(events.ALWAYS_LIVE, type_) and events.matches(action.types, type_)
        ]
        if looks_at_key and live:
            yield (
                f"action {action.name}: `when` looks at verified_by, but Prembly signs"
                f" {', '.join(live)} with the live key also when the sandbox triggered them: write"
                f" {_SIGNED_APART}, or give the sandbox an account and a URL of its own"
            )


def _of_trust(settings: Config) -> Iterator[str]:
    """Yield the actions that take somebody's word for it that a person is verified, where whoever
    has the signing key can give it."""
    open_endpoints = [each for each in settings.endpoints if not _is_second_factor(each)]
    webhooks = [
        webhook
        for webhook in _sample_webhooks(open_endpoints)
        if webhook.verdict.outcome is Outcome.VERIFIED
    ]
    routing = Routing(settings.actions)
    for action in settings.actions:
        if action.confirm or action.when is None:
            continue
        wants_verified = _once_for_alike(
            action, functools.partial(_wants_verified, routing, action)
        )
        names = dict.fromkeys(each.endpoint for each in webhooks if wants_verified(each))
        if names:
            yield (
                f"action {action.name} runs for people who are verified, and whoever has your"
                " public key can write that: Prembly's guide puts the key into your web page."
                " Write `confirm: true`, so that Prembly is asked first, or at least give endpoint"
                f" {' and '.join(names)} a path that nobody can guess (openssl rand -hex 16)"
            )


def _wants_verified(routing: Routing, action: Action, webhook: Webhook) -> bool:
    """Return whether an action runs for a webhook because that says `verified`."""
    not_verified = replace(
        webhook.verdict, outcome=Outcome.NOT_VERIFIED, verification_status="NOT-VERIFIED"
    )
    return (
        routing.why_not(action, webhook) is None
        and routing.why_not(action, replace(webhook, verdict=not_verified)) is not None
    )


def _is_second_factor(endpoint: Endpoint) -> bool:
    """Return whether who knows the key alone can't reach an endpoint."""
    has_secret = any(_GUESSABLE.fullmatch(part) is None for part in endpoint.path.split("/"))
    return has_secret or bool(endpoint.allow_ips)


_FOR_VERIFICATIONS = f'types: [{events.SESSION}, "verification.*", {events.STATUS}]'
_SIGNED_APART = f"types: [{events.SESSION}, {events.DIRECT}]"


def _of_type(pattern: str) -> str | None:
    """Return what is odd about a pattern of types."""
    meant = events.pattern_meant_by(pattern)
    hint = f"; did you mean {meant}?" if meant else ""
    if not set(pattern) & {"*", "?"}:
        if events.can_be(pattern) and not meant:
            return None
        return f"Prembly documents no type {pattern}{hint}"
    is_open = pattern.startswith(events.OPEN_FAMILIES)
    if is_open or any(events.matches([pattern], type_) for type_ in events.MEANINGS):
        return None
    return f"no type that Prembly documents is like {pattern}{hint}"


def _is_meant(action: Action) -> bool:
    """Return whether an action says that it is meant for the types that it gets: by `types`, or by
    being for every event ("*", without `when`)."""
    is_for_all = EVERY in action.response_codes and action.when is None
    return is_for_all or "types" in action.model_fields_set


def _chosen_types(action: Action, routing: Routing, webhooks: Sequence[Webhook]) -> list[str]:
    """Return the types of these webhooks for which the action would run."""
    runs = _once_for_alike(action, lambda webhook: routing.why_not(action, webhook) is None)
    types = dict.fromkeys(webhook.verdict.type for webhook in webhooks if runs(webhook))
    return [*list(types)[:3], *(["…"] if len(types) > 3 else [])]


def _once_for_alike(
    action: Action, question: Callable[[Webhook], bool]
) -> Callable[[Webhook], bool]:
    """Ask once for all webhooks that are alike to an action: hundreds of actions, and samples for
    dozens of endpoints, would take minutes."""
    named = conditions.names(action.when) if action.when else set()
    answers: dict[object, bool] = {}

    def answer(webhook: Webhook) -> bool:
        seen = tuple(
            getattr(webhook, name) for name in ("endpoint", "verified_by") if name in named
        )
        alike = (webhook.body, webhook.verdict, seen)
        if alike not in answers:
            answers[alike] = question(webhook)
        return answers[alike]

    return answer


def _sample_webhooks(endpoints: Sequence[Endpoint]) -> Iterator[Webhook]:
    """Yield every sample, as if each endpoint had got it signed by each of its keys."""
    bodies = [samples.sample(name) for name in samples.NAMES]
    for endpoint, body in itertools.product(endpoints, bodies):
        verdict = payload.read(body, endpoint.fields)
        for verified_by in _signers([endpoint]):
            yield Webhook(
                endpoint=endpoint.name,
                received_at_ms=0,
                remote_ip="",
                token=None,
                headers="[]",
                body=body,
                verified_by=verified_by,
                verdict=verdict,
            )


def _signers(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """Return what `verified_by` can be for webhooks to these endpoints."""
    return tuple(f"{endpoint.scheme}:{key}" for endpoint in endpoints for key in endpoint.keys)


def _of_expressions(action: Action, endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """Yield where `when` or `select` names an endpoint or key that is not there."""
    words = {
        "endpoint": tuple(endpoint.name for endpoint in endpoints),
        "verified_by": (*_signers(endpoints), events.STORED_BY),
    }
    expressions = [action.when] if action.when else []
    expressions += action.hook.expressions
    for expression in expressions:
        try:
            conditions.check(expression, words)
        except ExpressionError as error:
            yield f"action {action.name}: {error}"


def _of_pending(pending: Pending, actions: Sequence[Action]) -> Iterator[str]:
    """Yield what of `pending` comes to nothing."""
    if not any(events.matches(action.types, events.STATUS) for action in actions):
        yield (
            f"pending: no action is for the type {events.STATUS}, so nothing runs for what Prembly"
            f" answers: list it in an action's `types`"
        )
    if pending.ask_ms[-1] > pending.give_up_ms:
        yield "pending: nothing is asked after `give_up`, and the last of `ask` is later"


def _of_code(code: str) -> str:
    words = difflib.get_close_matches(code.lower(), [MISSING, DEFAULT], n=1)
    word = {"any": EVERY, "all": EVERY}.get(code.lower(), words[0] if words else None)
    if close := payload.code_meant_by(code) or word:
        return f'response code "{code}" is not "{close}"; did you mean "{close}"?'
    return f'Prembly documents no response code "{code}" (but {", ".join(payload.CODES)})'


def _of_files(settings: Config) -> Iterator[str]:
    """Yield the programs and files of hooks that are not there, or that the service can't see."""
    hidden = _hidden_from_service(settings)
    for place, hook in _hooks(settings).items():
        if place in hidden:
            yield (
                f"{place}: the service can't see {hidden[place]}"
                " (ProtectHome= and PrivateTmp= in premblyd.service)"
            )
        elif (program := hook.program) and not _is_executable(program):
            yield f"{place}: {program} is not an executable here"


def _hooks(settings: Config) -> dict[str, Hook]:
    """Return all hooks by whose they are, in words such as `action crm`."""
    hooks = {f"action {action.name}": action.hook for action in settings.actions}
    return hooks | {f"alert {alert.name}": alert.hook for alert in settings.alerts}


def _is_executable(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", DEFAULT_PATH)) is not None


def _hidden_from_service(settings: Config) -> dict[str, str]:
    """Return by hook a path that the installed service does not see, even if this user does."""
    at_home, in_tmp = {}, {}
    for place, hook in _hooks(settings).items():
        if found := _HIDDEN.search("\n".join(hook.may_name_files)):
            at_home[place] = found[0]
        program = hook.program or ""
        if program.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
            in_tmp[place] = program
    if not (at_home or in_tmp):
        return {}
    sandbox = _sandbox()
    hidden = {}
    if sandbox.get("PrivateTmp") in ("yes", "disconnected"):
        hidden.update(in_tmp)
    if sandbox.get("ProtectHome") in ("yes", "tmpfs"):
        hidden.update(at_home)
    return hidden


def _sandbox() -> Mapping[str, str]:
    """Return what of the service's sandbox is in force, drop-ins too; empty without a service."""
    command = ["systemctl", "show", f"--property={','.join(_SANDBOX)}", "premblyd.service"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else {}
