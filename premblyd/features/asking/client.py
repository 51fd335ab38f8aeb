"""Asking Prembly: one question at a time for each verification, at a bounded rate, and none while
Prembly can't answer."""

import asyncio
import hashlib
import time
import uuid
from dataclasses import dataclass, replace
from enum import StrEnum

from premblyd.features.asking import answers
from premblyd.features.asking.answers import Question, Stated
from premblyd.features.asking.settings import PremblyApi
from premblyd.ground.httpclient import HttpClient, Request, Response, retry_after_s
from premblyd.ground.telemetry import tell
from premblyd.ground.times import Clock

ALLOWED_FAILURES = 5  # in a row
FIRST_PAUSE_S = 10.0
MAX_PAUSE_S = 300.0
REFUSED_PAUSE_S = 300.0  # a wrong key does not become right by itself
MAX_RETRY_AFTER_S = 3600.0  # one odd header must not silence all questions for a day


class Pace:
    """Spreads questions evenly: never more than `rate` in a second, no burst after a rest, and none
    after a time in which the loop was busy with something else."""

    def __init__(self, rate: float) -> None:
        self._gap_s = 1 / rate
        self._next_at = float("-inf")
        self._waiting = asyncio.Lock()  # who comes first goes first

    async def turn(self) -> None:
        """Wait for a turn."""
        async with self._waiting:
            while (wait_s := self._next_at - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._next_at = time.monotonic() + self._gap_s


class Breaker:
    """Closed while Prembly answers. Opened by ALLOWED_FAILURES failures in a row, by a refusal, or
    at once by whoever asks for a pause; then each further failure lengthens the pause."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until = float("-inf")
        # Whether it was opened and no answer has come since: then a single question is to show
        # whether Prembly answers again.
        self.circuit_open = False

    @property
    def is_close(self) -> bool:
        """Whether one more failure opens it."""
        return self.circuit_open or self._failures + 1 >= ALLOWED_FAILURES

    def wait_s(self, now: float) -> float:
        """Return for how long Prembly is not to be asked; 0: it may be."""
        return max(0.0, self._open_until - now)

    def succeeded(self) -> bool:
        """Note an answer. Return whether Prembly was thought unable to answer until now."""
        was_open, self.circuit_open = self.circuit_open, False
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        return was_open

    def failed(self, now: float, retry_after_s: float = 0) -> float:
        """Note a failure. Return the pause that begins now; 0: none, or it has begun already."""
        if self.wait_s(now) and not retry_after_s:
            return 0  # asked before the pause began
        self._failures += 1
        pause_s = min(retry_after_s, MAX_RETRY_AFTER_S)
        if self._failures >= ALLOWED_FAILURES or self.circuit_open:
            pause_s = max(pause_s, self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        return self._open(now, pause_s)

    def refused(self, now: float) -> float:
        """Note that Prembly refuses the key. Return the pause that begins now."""
        return self._open(now, REFUSED_PAUSE_S)

    def _open(self, now: float, pause_s: float) -> float:
        if pause_s:
            self.circuit_open = True
            self._open_until = max(self._open_until, now + pause_s)
        return pause_s


MAX_ANSWER_BYTES = 16 << 20  # as an event's body, which it may become
MAX_AT_ONCE = 16
STOPPED = "the daemon was stopped"
NOT_FOUND = "Prembly knows no such verification"
WITHHELD = "Prembly refuses to answer for this verification"
NO_KEY = "there is no `prembly: {api_key: …}` to ask Prembly with"
_REMEDY = (
    "check `prembly: {api_key: …}`: it is the account's secret key, of the environment (sandbox or"
    " live) that `url` is for"
)
# About this one question; any other status may be gone the next time.
_NO_SUCH = (400, 404, 410, 422)
_REFUSALS = (401, 403)
_TOO_MANY = 429


class AnswerKind(StrEnum):
    """What kind of answer came."""

    KNOWN = "known"  # it says something of the verification
    NOT_FOUND = "not_found"  # or Prembly answers for others, and refuses to for this one
    REFUSED = "refused"  # the key
    UNAVAILABLE = "unavailable"  # none that can be used, or Prembly was not asked at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a question. `error` is ours: it quotes neither the question nor the answer.
    `was_asked`: Prembly got it."""

    kind: AnswerKind
    at_ms: int = 0  # when Prembly was asked
    duration_ms: int = 0
    http_status: int | None = None
    error: str | None = None
    body: bytes = b""
    sha256: bytes | None = None
    stated: Stated = answers.NOTHING  # by a KNOWN one
    retry_after_s: float = 0  # ask no earlier than in this time
    was_asked: bool = True

    @property
    def why_not_found(self) -> str:
        """What to say of a verification that is NOT_FOUND."""
        return WITHHELD if self.http_status in _REFUSALS else NOT_FOUND


class Inquirer:
    """Asks Prembly. Its time is the daemon's; `interrupt` ends what waits and what is asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._api: PremblyApi | None = None
        self._client: HttpClient | None = None  # made when there is somebody to ask
        self._pace = Pace(1)
        self._breaker = Breaker()
        self._paused_by = ""  # the last failure
        self._probing = asyncio.Lock()
        self._proving = asyncio.Lock()
        self._key_judged = (float("-inf"), True)  # when it was asked that told, and if it is right
        self._answered_at = float("-inf")  # when the last question was asked that Prembly answered
        self._proof = _made_up()
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._interrupted = False

    def configure(self, api: PremblyApi | None) -> None:
        """Use these settings from the next question on; None, or no key: there is nobody to ask."""
        if api == self._api:
            return
        self._api = api
        self._breaker = Breaker()  # what was wrong may be mended now
        self._key_judged = (float("-inf"), True)
        self._proof = _made_up()  # the key may be another account's
        if api is None or api.api_key is None:
            return
        self._pace = Pace(api.rate)
        if self._client is None:
            self._client = HttpClient()

    @property
    def can_ask(self) -> bool:
        """Whether there is a key to ask with."""
        return self._api is not None and self._api.api_key is not None

    @property
    def wait_s(self) -> float:
        """For how long Prembly is not asked, because it can't answer; 0: it is asked."""
        return self._breaker.wait_s(time.monotonic())

    @property
    def circuit_open(self) -> bool:
        """Whether a single question is to show first whether Prembly answers again."""
        return self._breaker.circuit_open

    async def ask(self, question: Question) -> Answer:
        """Ask Prembly about a verification. Never raise: the answer tells what went wrong.

        Who asks for the same meanwhile gets the same answer.
        """
        task = self._asking.get(question.identifier)
        if task is None:
            if refusal := self._why_not_now():
                return refusal
            task = asyncio.create_task(self._in_turn(question))
            self._asking[question.identifier] = task
            task.add_done_callback(lambda _: self._asking.pop(question.identifier, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            return self._unasked(STOPPED)

    async def fetch(self, path: str) -> Answer:
        """Ask for something else than a verification, such as a page of Prembly's log: as the same
        user, within the same rate. KNOWN: the answer is 200, and its body is not read."""
        return self._why_not_now() or await self._in_turn(path)

    def interrupt(self) -> None:
        """Ask nothing more, and give up what is asked."""
        self._interrupted = True
        for task in self._asking.values():
            task.cancel()

    def close(self) -> None:
        """Give back what is held. Nothing is asked any more."""
        self.interrupt()
        if self._client:
            self._client.close()

    async def _in_turn(self, asked: Question | str) -> Answer:
        async with self._at_once:
            await self._pace.turn()
            if not self._breaker.circuit_open:
                return await self._send(asked)
            async with self._probing:  # one of them shows whether Prembly answers again
                return await self._send(asked)

    async def _send(self, asked: Question | str) -> Answer:
        if refusal := self._why_not_now():
            return refusal
        api, started = self._api, time.monotonic()
        answer = await self._exchange(api, asked)
        if answer.kind is AnswerKind.REFUSED and isinstance(asked, Question):
            return await self._whose(answer, api, started)
        if answer.kind is AnswerKind.UNAVAILABLE and await self._fails_alone(answer, started):
            return answer
        self._note(answer, asked, started)
        return answer

    async def _exchange(self, api: PremblyApi | None, asked: Question | str) -> Answer:
        if api is None or api.api_key is None or self._client is None:
            return self._unasked(NO_KEY)
        at_ms, started = self._clock.now_ms(), time.monotonic()
        headers = {"accept": "application/json", "x-api-key": api.api_key.reveal()}
        headers |= {name.lower(): value.reveal() for name, value in api.headers.items()}
        path = asked
        if isinstance(asked, Question):
            path = api.status.path.replace("{id}", asked.path_segment)
        response = await self._client.send(
            Request(f"{api.url}{path}", [*headers.items()], method="GET"),
            api.timeout_ms / 1000,
            kept_bytes=MAX_ANSWER_BYTES,
            ca_file=str(api.ca_file) if api.ca_file else None,
            proxy=api.proxy.reveal() if api.proxy else "",
        )
        return replace(
            await self._judged(api, response, asked),
            at_ms=at_ms,
            duration_ms=round((time.monotonic() - started) * 1000),
            http_status=response.status or None,
            body=response.body,
            sha256=hashlib.sha256(response.body).digest() if response.body else None,
        )

    async def _whose(self, refused: Answer, api: PremblyApi | None, started: float) -> Answer:
        """Return what a refusal means.

        Whoever knows the public key can send the id of a verification that is another account's, or
        that a firewall dislikes. That it is the key which is refused shows in another question,
        about what Prembly told of before: no forged event can choose it. "No such verification" is
        no proof: a key of another account may get that, and be refused for all that is true.
        """
        async with self._proving:
            if self._key_judged[0] < started:
                await self._ask_for_proof(api)
            judged_at, is_right = self._key_judged
        status = f"HTTP {refused.http_status}"
        if judged_at < started:
            return replace(refused, kind=AnswerKind.UNAVAILABLE, error=f"{status}: {_UNSURE}")
        if is_right:
            withheld = f"{status}: {WITHHELD}"
            return replace(refused, kind=AnswerKind.NOT_FOUND, error=withheld)
        return refused

    async def _fails_alone(self, failed: Answer, started: float) -> bool:
        """Return whether Prembly can't answer this question, and does answer another, where else
        nothing would be asked for a while: whoever knows the public key can send ids on which
        Prembly, or a firewall, fails, and would have all hooks wait."""
        if failed.retry_after_s or not self._breaker.is_close:
            return False
        async with self._proving:
            if self._answered_at < started and not self.wait_s:
                await self._ask_for_proof(self._api)
        return self._answered_at >= started

    async def _ask_for_proof(self, api: PremblyApi | None) -> None:
        """Ask once more, to know whether Prembly refuses the key, or answers nothing."""
        await self._pace.turn()
        proof, started = self._proof, time.monotonic()
        self._note(await self._exchange(api, proof), proof, started)

    async def _judged(self, api: PremblyApi, response: Response, asked: Question | str) -> Answer:
        """Return what a response means, without its particulars."""
        status = response.status
        error = response.error or f"HTTP {status}"
        if status in _REFUSALS:
            return Answer(kind=AnswerKind.REFUSED, error=f"HTTP {status}: {_REFUSED}")
        if status in _NO_SUCH:
            return Answer(kind=AnswerKind.NOT_FOUND, error=error)
        wait_s = min(retry_after_s(response.retry_after, time.time()), MAX_RETRY_AFTER_S)
        if status == _TOO_MANY:
            wait_s = wait_s or FIRST_PAUSE_S
        if 300 <= status < 400:
            error = f"HTTP {status}: a redirect, which is not followed; is `prembly: url` right?"
        elif response.truncated:
            error = f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB"
        elif status == 200 and isinstance(asked, str):
            return Answer(kind=AnswerKind.KNOWN)
        elif status == 200:
            # Beside the loop: a large one is more than a moment's work.
            stated = await asyncio.to_thread(answers.read, response.body, api.status.fields)
            if stated and answers.is_unknown_to_prembly(stated):
                return Answer(kind=AnswerKind.NOT_FOUND)
            if stated:
                return Answer(kind=AnswerKind.KNOWN, stated=stated)
            error = "the answer is no JSON object, or has too many values"
        return Answer(kind=AnswerKind.UNAVAILABLE, error=error, retry_after_s=max(wait_s, 0))

    def _note(self, answer: Answer, asked: Question | str, started: float) -> None:
        """Let what came of a question decide whether Prembly is asked further."""
        now = time.monotonic()
        if isinstance(asked, Question) and not answer.stated.is_empty:
            self._proof = asked
            self._key_judged = max(self._key_judged, (started, True))
        if answer.kind is AnswerKind.REFUSED:
            self._key_judged = max(self._key_judged, (started, False))
            self._paused_by = answer.error or ""
            pause_s = round(self._breaker.refused(now))
            status = answer.http_status or 0
            tell("inquiry.refused", http_status=status, pause_s=pause_s, remedy=_REMEDY)
        elif answer.kind is AnswerKind.UNAVAILABLE:
            self._paused_by = answer.error or ""
            if pause := self._breaker.failed(now, answer.retry_after_s):
                tell("inquiry.paused", reason=self._paused_by, pause_s=round(pause))
        else:
            self._answered_at = max(self._answered_at, started)
            if self._breaker.succeeded():
                tell("inquiry.resumed")

    def _why_not_now(self) -> Answer | None:
        """Return what to answer without asking; None: Prembly may be asked."""
        if self._interrupted or not self.can_ask:
            return self._unasked(STOPPED if self._interrupted else NO_KEY)
        wait_s = self.wait_s
        return self._unasked(f"{_PAUSED}: {self._paused_by}", wait_s) if wait_s else None

    def _unasked(self, error: str, retry_after_s: float = 0) -> Answer:
        return Answer(
            kind=AnswerKind.UNAVAILABLE,
            at_ms=self._clock.now_ms(),
            error=error,
            retry_after_s=retry_after_s,
            was_asked=False,
        )


def _made_up() -> Question:
    """Return a question about nothing: it is refused for the key's sake alone."""
    return Question(identifier=str(uuid.uuid4()), reference=None)


_PAUSED = "Prembly is not asked now, because it could not answer lately"
_REFUSED = "Prembly refuses the API key"
_UNSURE = "Prembly refuses the API key, or to answer for this verification"
