"""The environment of a hook, whatever features are there."""

import asyncio
import os
from contextlib import closing
from typing import Any

import pytest

from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children
from premblyd.run.shell import ShellRunner
from tests.support.jobs import KEY, hook, invocation

pytestmark = pytest.mark.process


def run(given: Invocation | None = None, **keys: Any) -> Result:
    with closing(ShellRunner(Children())) as runner:
        return asyncio.run(runner.run(hook(**keys), given or invocation()))


def variables(given: Invocation, **keys: Any) -> dict[str, str]:
    """Return the whole environment that a command gets."""
    output = run(given, command=["env", "-0"], **keys).output or ""
    pairs = [pair.partition("=") for pair in output.split("\0")[:-1]]
    return {name: value for name, _, value in pairs}


@pytest.mark.promise
def test_the_environment_is_exactly_the_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = {"SECRET_CANARY": "hush", "PREMBLY_SANDBOX_KEY": "hush", "LD_PRELOAD_X": "hush"}
    inherited = {"PATH": os.environ["PATH"], "HOME": "/h", "LANG": "C.UTF-8", "TZ": "Africa/Lagos"}
    for name, value in {**canaries, **inherited}.items():
        monkeypatch.setenv(name, value)
    known = {"kind": "sdk", "response_code": "00", "status": "true", "outcome": "not_verified"}
    person: dict[str, Any] = {"reference": "réf", "user_ref": "u-1", "face_confidence": 97.5}
    other: dict[str, Any] = {"session_id": "hush", "detail": "hush", "face_match": False}
    more: dict[str, Any] = {"type": "sdk.session", "risk_level": "high", "risk_score": 75.0}
    more["doubt"] = "code,face"
    given = invocation(
        b'{"hush": 1}',
        attempt=3,
        token="hush",
        idempotency_key="1ce",
        confirmed=("reference", "outcome"),
        **{**known, **person, **other, **more},
    )
    identity = (
        f"EVENT=17 EVENT_KEY={KEY} ONCE_KEY=1ce DELIVERY=23 ATTEMPT=3"
        " WORKER=host:1:boot ENDPOINT=prembly"
        " KIND=sdk TYPE=sdk.session RESPONSE_CODE=00 STATUS=true OUTCOME=not_verified"
        " REFERENCE=réf USER_REF=u-1"
        " FACE_MATCH=false FACE_CONFIDENCE=97.5 RISK_LEVEL=high RISK_SCORE=75.0"
        " DOUBT=code,face TRACEPARENT= CONFIRMED=true CONFIRMED_FIELDS=reference,outcome ERASED="
    )
    own = {"ARCHIVE_DIR": "/a b", "OTHER": "=$HOME"}
    premblys = dict(pair.split("=") for pair in f" {identity}".replace(" ", " PREMBLY_").split())
    assert variables(given, env=own) == {**inherited, **premblys, **own}
