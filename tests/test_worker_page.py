"""The examples of the page on workers, run by the daemon's own runner."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.queue.jobs import Result
from premblyd.run.invocation import Invocation
from premblyd.run.kinds import Runners
from premblyd.run.process import Children
from premblyd.run.protocol import AnswerKind, delivery_line, hello
from tests.support.configuration import configuration
from tests.support.jobs import invocation
from tests.support.pages import BLOCKS, PAGES, Block, blocks, explained, in_backticks

PAGE = "docs/worker-protocol.md"
YOUR_WORK = "your work"  # on the line where an example leaves it out
# What each example does there, in this test: it prints whom the delivery is about.
PRINTS = {
    "python": 'print(event["reference"], flush=True)',
    "php": "echo 'ver-', $event['body']['n'];",
    "javascript": "console.log(event.reference);",
}
NEEDS = {"php": ("php", "php-cli"), "javascript": ("node", "nodejs")}


def program(tag: str, words: str = "") -> Block:
    """Return the page's program in this language, which has these words."""
    (found,) = (block for block in blocks(tag) if block.page == PAGE and words in block.text)
    return found


def write(folder: Path, block: Block, work: str = "") -> Path:
    """Write a program of the page into a file, with `work` where it leaves that out."""
    text = "\n".join(
        f"{line[: len(line) - len(line.lstrip())]}{work}" if work and YOUR_WORK in line else line
        for line in block.text.splitlines()
    )
    assert text.startswith("#!")
    path = folder / "tell-crm"
    path.write_text(f"{text}\n")
    path.chmod(0o755)
    return path


def delivery(number: int, **verdict: Any) -> Invocation:
    body = json.dumps({"n": number}).encode()
    return invocation(body, reference=f"ver-{number}", outcome="verified", **verdict)


def run(worker: Path, deliveries: Sequence[Invocation], **keys: Any) -> list[Result]:
    """Return how the deliveries end of an action with this worker, all given at once."""
    in_time = {"timeout": "5m", "start_timeout": "5m"}  # also on a busy machine
    action = {"name": "act", "response_codes": ["*"], "worker": [str(worker)], **in_time, **keys}
    text = json.dumps(configuration(actions=[action]))
    settings = parse_config(
        text, worker.with_name("premblyd.yaml"), SecretPlaces(worker.parent, {})
    )

    async def main() -> list[Result]:
        runners = Runners.make(Children())
        try:
            runners.configure(settings)
            hook = settings.actions[0].hook
            return await asyncio.gather(*(runners.run(hook, each) for each in deliveries))
        finally:
            runners.interrupt()
            runners.close()

    return asyncio.run(main())


def ends(results: Sequence[Result]) -> list[tuple[str, str | None]]:
    return [(result.outcome, result.output) for result in results]


@pytest.mark.process
@pytest.mark.parametrize("tag", ["python", "php", "javascript"])
def test_the_first_examples_do_their_work_and_answer(tag: str, tmp_path: Path) -> None:
    if tag in NEEDS and not shutil.which(NEEDS[tag][0]):
        pytest.skip(f"needs {tag} (apt-get install {NEEDS[tag][1]})")
    worker = write(tmp_path, program(tag, YOUR_WORK), PRINTS[tag])
    results = run(worker, [delivery(1), delivery(2)], concurrency=1)
    assert ends(results) == [("succeeded", "ver-1"), ("succeeded", "ver-2")]


@pytest.mark.process
def test_an_example_that_fails_fails_that_attempt_and_another_takes_its_place(
    tmp_path: Path,
) -> None:
    breaks = 'if event["number"] == 2: raise LookupError("no such customer")'
    worker = write(tmp_path, program("python", YOUR_WORK), breaks)
    first, second, third = run(worker, [delivery(n) for n in (1, 2, 3)], concurrency=1)
    assert (first.outcome, third.outcome) == ("succeeded", "succeeded")
    assert (second.outcome, second.exit_code) == ("failed", 1)
    assert "LookupError: no such customer" in (second.output or "")


@pytest.mark.process
def test_a_worker_is_tried_by_hand(tmp_path: Path) -> None:
    write(tmp_path, program("python", YOUR_WORK))
    (by_hand,) = (block for block in blocks("sh") if "3<lines" in block.text)
    done = subprocess.run(
        ["/bin/sh", "-euc", by_hand.text],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.stdout.decode().splitlines() == ["ready 1", "ok 1"]
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_page_tells_every_name_of_a_line_and_every_answer() -> None:
    reads, answers = PAGES[PAGE].split("\n## ")[2:4]
    line = json.loads(delivery_line(1, delivery(1)))
    assert set(explained(reads)) == line.keys()
    assert [text.split()[0] for text in explained(answers)] == list(AnswerKind)
    (shown,) = (text for text in in_backticks(reads) if text.startswith('{"premblyd":'))
    version = {"version": json.loads(shown)["version"]}  # of whenever it was written
    assert json.loads(shown) == json.loads(hello("tell-crm")) | version


def test_every_program_of_the_page_is_run_here() -> None:
    programs = [block for block in BLOCKS if block.page == PAGE and block.text.startswith("#!")]
    assert [block.tag for block in programs] == ["python", "php", "javascript"]
