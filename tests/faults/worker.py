"""A worker hook that runs a line of shell for each delivery, as a shell hook would: a program, and
the action that has it.

So the same script counts the same in both. It gets the event by its environment; exit status 0 is
`ok`, any other `retry`. Of a batch, all run at once, and are answered in the order of their ends.
"""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def worker(name: str, script: str, *codes: str, batch: int = 1, **more: Any) -> dict[str, Any]:
    """Return an action that runs `script` by a worker that gets `batch` deliveries at a time."""
    program = [sys.executable, "-I", "-S", __file__, script]
    own = {"name": name, "response_codes": list(codes) or ["*"], "worker": program}
    return own | {"batch": batch, **more}


def main() -> None:
    script = sys.argv[1]
    with open(3, encoding="utf-8") as lines, open(4, "w", encoding="utf-8") as answers:
        batch = json.loads(lines.readline())["batch"]
        answering = threading.Lock()

        def answer(text: str) -> None:
            with answering:
                answers.write(f"{text}\n")
                answers.flush()

        def run(line: str) -> None:
            delivery = json.loads(line)
            done = subprocess.run(["/bin/sh", "-c", script], env=_environ(delivery), check=False)
            code, number = done.returncode, delivery["number"]
            answer(f"retry {number} 0 exit status {code}" if code else f"ok {number}")

        answer("ready 1 batch")
        with ThreadPoolExecutor(batch) as pool:
            for line in lines:
                pool.submit(run, line)


def _environ(delivery: dict[str, Any]) -> dict[str, str]:
    """Return the environment that a shell hook would have for this delivery."""
    own = {f"PREMBLY_{name.upper()}": _text(value) for name, value in delivery.items()}
    return {**os.environ, **{name: text for name, text in own.items() if name != "PREMBLY_BODY"}}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    main()
