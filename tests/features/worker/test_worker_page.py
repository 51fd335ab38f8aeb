"""The examples of the page on workers, run by the daemon's own runner."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.worker.protocol import AnswerKind, delivery_line, hello
from premblyd.run.kinds import Invocation
from tests.features.worker.working import Working, outcomes
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


@pytest.mark.process
@pytest.mark.parametrize("tag", ["python", "php", "javascript"])
async def test_the_first_examples_do_their_work_and_answer(tag: str, tmp_path: Path) -> None:
    if tag in NEEDS and not shutil.which(NEEDS[tag][0]):
        pytest.skip(f"needs {tag} (apt-get install {NEEDS[tag][1]})")
    worker = write(tmp_path, program(tag, YOUR_WORK), PRINTS[tag])
    async with Working(worker=[str(worker)]) as at:
        hook: Any = at.actions[0].hook
        results = [await at.runner.run(hook, delivery(n)) for n in (1, 2)]
    assert outcomes(results) == {"succeeded": 2}
    assert [one.output for one in results] == ["ver-1", "ver-2"]


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
