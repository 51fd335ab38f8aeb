"""The warnings of `premblyd check`: what is valid in a configuration and probably not meant."""

import difflib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from premblyd.config.models import Action, Config, Endpoint
from premblyd.expressions import ExpressionError
from premblyd.hooks.shell.environment import DEFAULT_PATH
from premblyd.prembly import conditions
from premblyd.prembly.codes import MEANINGS
from premblyd.routing import DEFAULT, EVERY, MISSING

# Letters that are typed for a digit.
_LOOKALIKES = str.maketrans("OoQIlZ", "000112")
_SECRET_KEY = re.compile(r"(^|_)sk(_|$)", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<|(placeholder|change|replace|insert|your|put|todo|xxx)", re.IGNORECASE)
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
    for place, secret in settings.secrets.items():
        if secret.source != "text" and secret.reveal() != secret.reveal().strip():
            yield f"{place}: the secret ({secret.source}) has white space around it"
    for action in settings.actions:
        yield from _of_codes(action)
        yield from _of_expressions(action, settings.endpoints)
    added_up = sum(action.concurrency for action in settings.actions)
    if settings.total_concurrency < added_up:
        yield (
            f"concurrency is {settings.total_concurrency} and the actions' own add up to"
            f" {added_up}: a slow action may delay others"
        )
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


def _of_codes(action: Action) -> Iterator[str]:
    for code in action.response_codes:
        if code not in MEANINGS and code not in (EVERY, MISSING, DEFAULT):
            yield f"action {action.name}: {_of_code(code)}"


def _of_expressions(action: Action, endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """Yield where `when` or `select` names an endpoint or key that is not there."""
    words = {
        "endpoint": tuple(endpoint.name for endpoint in endpoints),
        "verified_by": tuple(
            f"{endpoint.scheme}:{key}" for endpoint in endpoints for key in endpoint.keys
        ),
    }
    expressions = [action.when] if action.when else []
    expressions += action.hook.expressions
    for expression in expressions:
        try:
            conditions.check(expression, words)
        except ExpressionError as error:
            yield f"action {action.name}: {error}"


def _of_code(code: str) -> str:
    close = code.translate(_LOOKALIKES).zfill(2)
    if close not in MEANINGS or close == code:
        words = difflib.get_close_matches(code.lower(), [MISSING, DEFAULT], n=1)
        close = {"any": EVERY, "all": EVERY}.get(code.lower(), words[0] if words else "")
    if close:
        return f'response code "{code}" is not "{close}"; did you mean "{close}"?'
    return f'Prembly documents no response code "{code}" (but {", ".join(MEANINGS)})'


def _of_files(settings: Config) -> Iterator[str]:
    """Yield the programs and files of actions that are not there, or that the service can't see."""
    hidden = _hidden_from_service(settings)
    for action in settings.actions:
        if action.name in hidden:
            yield (
                f"action {action.name}: the service can't see {hidden[action.name]}"
                " (ProtectHome= and PrivateTmp= in premblyd.service)"
            )
        elif (program := action.hook.program) and not _is_executable(program):
            yield f"action {action.name}: {program} is not an executable here"


def _is_executable(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", DEFAULT_PATH)) is not None


def _hidden_from_service(settings: Config) -> dict[str, str]:
    """Return by action a path that the installed service does not see, even if this user does."""
    at_home, in_tmp = {}, {}
    for action in settings.actions:
        if found := _HIDDEN.search("\n".join(action.hook.may_name_files)):
            at_home[action.name] = found[0]
        program = action.hook.program or ""
        if program.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
            in_tmp[action.name] = program
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
