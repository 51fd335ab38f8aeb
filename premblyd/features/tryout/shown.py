"""The warnings of `premblyd check`: what is valid in a configuration, but probably not meant."""

import itertools
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from premblyd.config.hooks import HttpHook, Selection
from premblyd.config.keys import value_of
from premblyd.config.models import Action, Config, Endpoint
from premblyd.config.routing import DEFAULT, EVERY, MISSING, Routing
from premblyd.config.secrets import Secret
from premblyd.features.tryout import conditions, samples
from premblyd.features.tryout.typenames import OPEN_FAMILIES, can_be, pattern_meant_by
from premblyd.ground.expressions import Expression, ExpressionError
from premblyd.prembly import events, payload
from premblyd.prembly.payload import WHEN_NAMES, Outcome, Webhook
from premblyd.record.told import Checked

_LISTS = ("keys", "headers")
# What stands for a key that has not been put in yet.
_PLACEHOLDER = re.compile(r"<|(placeholder|change|replace|insert|your|put|todo|xxx)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"(^|_)sk(_|$)", re.IGNORECASE)
# A part of a path with under 16 letters and digits in a row, or with letters alone.
_GUESSABLE = re.compile(r"(?!.*(?=[A-Za-z0-9]*[0-9])[A-Za-z0-9]{16}).*")
_FOR_VERIFICATIONS = f'types: [{events.SESSION}, "verification.*", {events.STATUS}]'


def warnings(checked: Checked) -> Iterator[str]:
    """Yield what is probably not meant in a configuration."""
    settings, path = checked.settings, checked.path
    in_the_open = (
        place
        for place, secret in secrets_in(settings)
        if secret.source == "text" and not place.endswith(", url")  # most URLs are no secrets
    )
    if any(in_the_open) and path.stat().st_mode & stat.S_IROTH:
        yield f"{path} holds secrets and others can read it: chmod o-r {path}"
    for endpoint in settings.endpoints:
        if endpoint.scheme == "public-key":
            yield (
                f"endpoint {endpoint.name}: the public-key scheme proves nothing about the body;"
                " leave out `scheme` if your account sends another"
            )
        for key, text in endpoint.key_texts.items():
            if doubt := _of_key(text):
                yield f"endpoint {endpoint.name}, key {key}: {doubt}"
    for action in settings.actions:
        yield from (f"action {action.name}: {doubt}" for doubt in _of_words(action, settings))
    yield from _of_types(settings)
    yield from _of_trust(settings)


def secrets_in(value: Any, *path: str) -> Iterator[tuple[str, Secret]]:
    """Yield every secret within a configuration, with its place in words such as
    `endpoint prembly, key live` or `action crm, url`."""
    match value:
        case Secret():
            section, name, *rest = (step for step in path if step != "hook")
            words = (step.removesuffix("s") if step in _LISTS else step for step in rest)
            place = f"{section.removesuffix('_value').removesuffix('s')} {name}"
            yield ", ".join(filter(None, (place, " ".join(words)))), value
        case BaseModel():
            for field_name in type(value).model_fields:
                yield from secrets_in(getattr(value, field_name), *path, field_name)
        case dict():
            for name, item in value.items():
                yield from secrets_in(item, *path, name)
        case tuple():
            for item in value:
                if isinstance(item, BaseModel):
                    yield from secrets_in(item, *path, getattr(item, "name", ""))
                elif isinstance(item, Secret):
                    yield from secrets_in(item, *path, item.source)


def _of_key(text: str) -> str | None:
    """Return what is odd about a key of Prembly's, without quoting it."""
    if _PLACEHOLDER.match(text):
        return "it is a placeholder; put your account's public key there"
    if _SECRET_KEY.search(text):
        return "it looks like the secret key (…sk_…); webhooks are signed with the public one"
    if not text.isascii() or any(letter.isspace() or letter in "'\"" for letter in text):
        return "it has quotes, white space or letters that Prembly's keys don't have"
    return None


def _of_words(action: Action, settings: Config) -> Iterator[str]:
    """Yield the codes that an action names wrongly, and where its `when` or `select` names an
    endpoint or key that is not there."""
    for code in action.response_codes:
        if code in payload.CODES or code in (EVERY, MISSING, DEFAULT):
            continue
        yield f'Prembly documents no response code "{code}" (but {", ".join(payload.CODES)})'
    known_words = {
        "endpoint": tuple(endpoint.name for endpoint in settings.endpoints),
        "verified_by": (*_signers(settings.endpoints), events.STORED_BY),
    }
    for expression in _expressions(action):
        try:
            conditions.check(expression, known_words)
        except ExpressionError as error:
            yield str(error)


def _expressions(action: Action) -> Iterator[Expression]:
    """Yield the expressions that are evaluated for a webhook before the hook runs."""
    if action.when is not None:
        yield action.when
    if isinstance(action.hook, HttpHook) and isinstance(action.hook.send, Selection):
        yield action.hook.send.select


def _of_types(settings: Config) -> Iterator[str]:
    """Yield which types an action names wrongly, or may run for without being meant to."""
    routing = Routing(settings.actions)
    others = [
        webhook
        for webhook in _samples(settings.endpoints)
        if not events.is_about_verification(webhook.verdict.type)
    ]

    def runs(action: Action, webhook: Webhook) -> bool:
        return routing.why_not(action, webhook) is None

    for action in settings.actions:
        name = f"action {action.name}"
        yield from (f"{name}: {doubt}" for each in action.types if (doubt := _of_type(each)))
        chosen = list(dict.fromkeys(each.verdict.type for each in _asked(runs, action, others)))
        shown = ", ".join(chosen[:3] + ["…"] * (len(chosen) > 3))
        # To be for every event ("*", without `when`) says that it is meant.
        is_for_all = EVERY in action.response_codes and action.when is None
        if value_of("confirm", action) and chosen:
            yield (
                f"{name} has `confirm`, and Prembly can't be asked for {shown}: such deliveries"
                f" would end dead; write {_FOR_VERIFICATIONS}"
            )
        elif chosen and not is_for_all and "types" not in action.model_fields_set:
            yield (
                f"{name} has no `types`, and would run for events that say nothing about a person's"
                f" verification too ({shown}): write {_FOR_VERIFICATIONS},"
                ' or types: ["*"] if that is meant'
            )


def _of_type(pattern: str) -> str | None:
    """Return what is odd about a pattern of types."""
    if not set(pattern) & {"*", "?"}:
        meant = pattern_meant_by(pattern)
        if can_be(pattern) and not meant:
            return None
        return f"Prembly documents no type {pattern}" + (
            f"; did you mean {meant}?" if meant else ""
        )
    is_open = pattern.startswith(OPEN_FAMILIES)
    if is_open or any(events.matches([pattern], type_) for type_ in events.MEANINGS):
        return None
    return f"no type that Prembly documents is like {pattern}"


def _of_trust(settings: Config) -> Iterator[str]:
    """Yield the actions that take somebody's word for it that a person is verified, where whoever
    has the signing key can give it."""
    routing = Routing(settings.actions)
    verified = [
        webhook
        for webhook in _samples(each for each in settings.endpoints if not _is_second_factor(each))
        if webhook.verdict.outcome is Outcome.VERIFIED
    ]

    def wants_verified(action: Action, webhook: Webhook) -> bool:
        verdict = replace(
            webhook.verdict, outcome=Outcome.NOT_VERIFIED, verification_status="NOT-VERIFIED"
        )
        not_verified = replace(webhook, verdict=verdict)
        return (
            routing.why_not(action, webhook) is None
            and routing.why_not(action, not_verified) is not None
        )

    for action in settings.actions:
        if value_of("confirm", action) or action.when is None:
            continue
        found = _asked(wants_verified, action, verified)
        if names := dict.fromkeys(webhook.endpoint for webhook in found):
            yield (
                f"action {action.name} runs for people who are verified, and whoever has your"
                " public key can write that: Prembly's guide puts the key into your web page."
                " Write `confirm: true`, so that Prembly is asked first, or at least give endpoint"
                f" {' and '.join(names)} a path that nobody can guess (openssl rand -hex 16)"
            )


def _is_second_factor(endpoint: Endpoint) -> bool:
    """Return whether who knows the key alone can't reach an endpoint."""
    has_secret = any(_GUESSABLE.fullmatch(part) is None for part in endpoint.path.split("/"))
    return has_secret or bool(endpoint.allow_ips)


def _asked(
    question: Callable[[Action, Webhook], bool], action: Action, webhooks: Iterable[Webhook]
) -> Iterator[Webhook]:
    """Yield the webhooks for which the answer is yes. It is asked once for all that are alike to
    the action: hundreds of actions, and samples for dozens of endpoints, would take minutes."""
    named = action.when.looks_at(WHEN_NAMES) if action.when else set()
    answers: dict[object, bool] = {}
    for webhook in webhooks:
        seen = [getattr(webhook, name) for name in ("endpoint", "verified_by") if name in named]
        alike = (webhook.body, webhook.verdict, *seen)
        if alike not in answers:
            answers[alike] = question(action, webhook)
        if answers[alike]:
            yield webhook


# What no action looks at.
_SENT: Mapping[str, Any] = {"received_at_ms": 0, "remote_ip": "", "token": None, "headers": "[]"}


def _samples(endpoints: Iterable[Endpoint]) -> Iterator[Webhook]:
    """Yield every sample, as if each endpoint had got it signed by each of its keys."""
    bodies = [samples.sample(name) for name in samples.NAMES]
    for endpoint, body in itertools.product(endpoints, bodies):
        verdict = payload.read(body, endpoint.fields)
        for verified_by in _signers([endpoint]):
            yield Webhook(
                endpoint=endpoint.name, body=body, verified_by=verified_by, verdict=verdict, **_SENT
            )


def _signers(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """Return what `verified_by` can be for webhooks to these endpoints."""
    signers = (
        f"{form.scheme}:{key}"
        for endpoint in endpoints
        for form in endpoint.forms
        for key in endpoint.keys
    )
    return tuple(dict.fromkeys(signers))


WARNINGS = (warnings,)
