"""What a complete body is: whose, what it says, and which actions it is for."""

import asyncio
import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from premblyd.config.models import Action, Endpoint
from premblyd.expressions import Budget, EvaluationError, MustBeMovedError
from premblyd.logs import get_logger
from premblyd.prembly import bodies, payload, signature
from premblyd.prembly.payload import FieldName, Verdict

Match = Callable[[str, str, Verdict, dict[str, Any] | None, Budget | None], Sequence[Action]]
TRIAL_STEPS = 5_000  # of expressions, on the loop: 3 ms
log = get_logger()
T = TypeVar("T")


class Recognised(NamedTuple):
    """An authentic body."""

    verified_by: str
    verdict: Verdict
    actions: Sequence[Action]
    body_sha256: bytes | None  # None: the body is small, and the inbox makes it


Take = Callable[[Callable[[], Recognised]], None]


class Recogniser:
    """Recognises bodies: on the loop, or beside it where that would keep it from everyone else."""

    def __init__(self) -> None:
        # One thread: two would share one interpreter all the same, and need twice the memory.
        self._aside = ThreadPoolExecutor(1, "premblyd-bodies")
        self._aside.submit(int).result()  # its thread is there before the machine lacks any

    def recognise(
        self, take: Take, body: bytes, header: str, endpoint: Endpoint, match: Match
    ) -> None:
        """Call `take` with what returns or raises what `recognise` does: at once if it is little
        work, else later. When `take` lets a MustBeMovedError pass, it is called again."""
        work = functools.partial(recognise, body, header, endpoint, match)
        if len(body) <= bodies.LARGE_BYTES:
            try:
                return take(work)
            except MustBeMovedError:
                pass
        moved = self.run_aside(functools.partial(work, is_trial=False))
        moved.add_done_callback(lambda future: take(future.result))
        return None

    def run_aside(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `work` beside the loop, in turn."""
        return asyncio.get_running_loop().run_in_executor(self._aside, work)


def recognise(
    body: bytes, header: str, endpoint: Endpoint, match: Match, *, is_trial: bool = True
) -> Recognised:
    """Verify `body` by its signature's `header`, read it and find its actions. What it says is
    logged where an expression fails. Raise SignatureError when no key signed it, and
    MustBeMovedError when a trial is too much work for the loop; nothing is logged then."""
    verified_by = signature.verify(body, header, endpoint.key_texts, endpoint.scheme)
    document = bodies.parse(body)
    failed: dict[FieldName, EvaluationError] = {}
    verdict = payload.recognise(
        document, endpoint.fields, budget=_budget(is_trial), failed=failed.__setitem__
    )
    actions = match(endpoint.name, verified_by, verdict, document, _budget(is_trial))
    for name, error in failed.items():
        log.warning("webhook.field_failed", endpoint=endpoint.name, field=name, error=str(error))
    if document is None and bodies.is_too_complex(body):
        log.warning("webhook.too_complex", endpoint=endpoint.name, body_bytes=len(body))
    is_large = len(body) > bodies.LARGE_BYTES
    return Recognised(
        verified_by, verdict, actions, hashlib.sha256(body).digest() if is_large else None
    )


def _budget(is_trial: bool) -> Budget:
    return Budget(TRIAL_STEPS, is_trial=True) if is_trial else Budget()
