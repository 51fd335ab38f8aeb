"""Random input for what reads foreign bytes: signature, payload, configuration, explain.

    python -m tests.faults.fuzz --cases 1000000 [--seed N]

Inputs are mutated from good ones. One with a result that is new is kept and mutated further.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from premblyd.cli import main as premblyd
from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.features.tryout import samples
from premblyd.ground.errors import ConfigError, SignatureError
from premblyd.prembly import events, payload, signature
from premblyd.prembly.bodies import FIELDS
from premblyd.prembly.payload import Webhook
from premblyd.queue.arrivals import event_key
from premblyd.queue.digests import Digests
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.faults.values import EXPLAINED, hostile_bodies

KEYS = {"live": "the-key", "sandbox": "another-key"}
MAX_CORPUS = 500
MAX_BYTES = 6000
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u0000", b"\\ud800", b"null", b"true",
    b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b'{"data":' * 1000, b"\0", b"\xff",
    b"\xed\xa0\x80", "\u202e\u0130\u00df".encode(), b"\r\n", b"\t", b"- ", b": ", b"&a ", b"*a",
    b"<<: *a", b"!!python/object:os.system ", b"%YAML 9\n", b"|\n  ", b"'", b"#", b"? ", b"--- ",
    b"$(id)", b"`id`", b"00", b"VERIFIED", b"widget_info", b"data", b"verification", b"status",
    b"response_code", b"when", b"select", b"=", b"==", b"+", b"/", b"A" * 300,
]  # fmt: skip
Target = Callable[[bytes, random.Random], object]


class BrokenError(AssertionError):
    """A property does not hold."""


def _holds(condition: bool, what: str) -> None:
    if not condition:
        raise BrokenError(what)


def read_payload(data: bytes, _: random.Random) -> object:
    """A verdict never raises, is storable, and does not depend on when it is made."""
    verdict = payload.read(data)
    _holds(verdict == payload.read(data), "two verdicts differ")
    texts = [getattr(verdict, name) for name in FIELDS]
    for text in texts:
        if isinstance(text, str):
            _holds(0 < len(text.encode()) <= payload.MAX_TEXT_BYTES, "a text can't be stored")
    number = verdict.face_confidence
    _holds(number is None or math.isfinite(number), "a confidence is no number")
    verified = verdict.outcome is payload.Outcome.VERIFIED
    spelling = (verdict.verification_status or "").lower()
    is_about = events.is_about_verification(verdict.type)
    _holds(is_about or verdict.outcome is payload.Outcome.UNKNOWN, "an outcome of no verification")
    _holds(verdict.type != events.STATUS, "a body claims to be Prembly's answer")
    _holds(not verified or spelling == "verified", f"verified by {spelling!r}")
    webhook = Webhook(
        endpoint="e", received_at_ms=0, remote_ip="", token=None, headers="", body=data,
        verified_by="", verdict=verdict,
    )  # fmt: skip
    _holds(len(event_key(Digests(b"key"), webhook)) == 32, "no key")
    return verdict.kind, verdict.type, verdict.outcome, tuple(text is not None for text in texts)


def verify_signature(data: bytes, rng: random.Random) -> object:
    """Only the exact signature of the exact body is taken, and anything else is a refusal."""
    body = data[:200]
    name = rng.choice(list(KEYS))
    header = signature.sign(body, KEYS[name])
    sent_header = rng.choice((header, header, data[-60:].decode("latin-1"), header + "\n"))
    if rng.random() < 0.6:
        sent_header = mutate(sent_header.encode("latin-1"), rng).decode("latin-1")
    try:
        found = signature.verify(body, {signature.HEADER: sent_header}, KEYS)
    except SignatureError as error:
        _holds(sent_header != header, "the right signature was refused")
        return error.reason
    _holds(sent_header == header and found == f"hmac-sha256:{name}", "a wrong signature was taken")
    return found


def read_config(data: bytes, _: random.Random) -> object:
    """A configuration is taken, or refused with places in the file."""
    path = Path("/nowhere/premblyd.yaml")
    try:
        parse_config(data.decode("utf-8", "replace"), path, SecretPlaces(path.parent, {}))
    except ConfigError as error:
        _holds(len(error.problems) > 0, "refused without a reason")
        for problem in error.problems:
            _holds(problem.line > 0 and problem.column > 0, "a problem without a place")
        return len(error.problems), error.problems[0].message[:20]
    return "taken"


class Explain:
    """`premblyd explain` ends well for every body and prints no control characters."""

    def __init__(self, at: Path) -> None:
        self._config = at / "premblyd.yaml"
        self._config.write_text(EXPLAINED)
        self._runner = CliRunner()

    def __call__(self, data: bytes, rng: random.Random) -> object:
        arguments = ["--config", str(self._config), "explain", "-"]
        as_json = rng.random() < 0.5
        ran = self._runner.invoke(
            premblyd, [*arguments, "--json"] if as_json else arguments, input=data
        )
        _holds(ran.exit_code == 0, f"explain ended with {ran.exit_code}: {ran.exception!r}")
        lines = ran.stdout.split("\n")
        _holds(all(line.isprintable() for line in lines), "explain printed a control character")
        return as_json, ran.stdout.count("PREMBLY_"), ran.stdout.count("would fail")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` changed in a few places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[at:at] = rng.choice(TOKENS)
            case 1:
                changed[at : at + rng.choice((1, 1, 8, 64))] = b""
            case 2:
                changed[at : at + 1] = rng.randbytes(1)
            case 3:
                changed[at : at + rng.randrange(1, 12)] = rng.choice(TOKENS)
            case 4:
                start = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + rng.randrange(200)]
            case _:
                changed[at : at + 1] = bytes([rng.choice(b"{}[]\":,\\0-.eE \n'")])
    return bytes(changed[:MAX_BYTES])


class Fuzz:
    """One target with its corpus."""

    def __init__(self, target: Target, seeds: list[bytes]) -> None:
        self._target = target
        self._corpus = list(seeds)
        self._seen: set[object] = set()
        self.cases = 0

    def run(self, cases: int, rng: random.Random) -> None:
        """Run so many cases. Raise what a case raises, with its input noted."""
        for _ in range(cases):
            data = rng.choice(self._corpus)
            if rng.random() < 0.95:
                data = mutate(data, rng)
            try:
                result = self._target(data, rng)
            except BaseException as error:
                error.add_note(f"input: {data!r:.2000}")
                raise
            self.cases += 1
            if result not in self._seen and len(data) < MAX_BYTES:
                self._seen.add(result)
                self._corpus.append(data)
                if len(self._corpus) > MAX_CORPUS:
                    del self._corpus[rng.randrange(len(self._corpus))]

    @property
    def size(self) -> int:
        return len(self._corpus)


def run(at: Path, cases: int, seed: int, *, say: bool = False) -> Counter[str]:
    """Fuzz all targets, `cases` in all; return how many cases each got."""
    rng = random.Random(seed)
    bodies = [samples.sample(name) for name in samples.NAMES] + hostile_bodies()
    bodies = [body for body in bodies if len(body) < MAX_BYTES]
    shares = {
        "payload": (0.5, Fuzz(read_payload, bodies)),
        "signature": (0.4, Fuzz(verify_signature, bodies)),
        "config": (0.08, Fuzz(read_config, [EXPLAINED.encode()])),
        "explain": (0.02, Fuzz(Explain(at), bodies)),
    }
    counted: Counter[str] = Counter()
    steps = max(1, cases // 20_000)
    for step in range(steps):
        for name, (share, fuzz) in shares.items():
            fuzz.run(max(1, round(cases / steps * share)), rng)
            counted[name] = fuzz.cases
        if say:
            sizes = {name: fuzz.size for name, (_, fuzz) in shares.items()}
            print(f"{(step + 1) / steps:.0%}: inputs kept {sizes}", flush=True)
    return counted


def main() -> None:
    arguments = campaigns.arguments(__doc__, cases=1_000_000, seed=campaigns.ANY)
    start = time.monotonic()
    print(f"seed {arguments.seed}", flush=True)
    with folder() as at:
        counted = run(at, arguments.cases, arguments.seed, say=True)
    table({f"{name}: cases without a fault": number for name, number in counted.items()})
    print(f"{sum(counted.values())} cases in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
