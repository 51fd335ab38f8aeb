"""A worker hook that runs a line of shell for each delivery, as a shell hook would: a program, and
the action that has it.

So the same script counts the same in both. It gets the event by its environment; exit status 0 is
`ok`, any other `retry`.
"""

import json
import os
import subprocess
import sys
from typing import Any


def worker(name: str, script: str, *codes: str, **more: Any) -> dict[str, Any]:
    """Return an action that runs `script` by a worker."""
    program = [sys.executable, "-I", "-S", __file__, script]
    return {"name": name, "response_codes": list(codes) or ["*"], "worker": program} | more


def main() -> None:
    script = sys.argv[1]
    with open(3, encoding="utf-8") as lines, open(4, "w", buffering=1, encoding="utf-8") as answers:
        print("ready 1", file=answers)
        next(lines)  # premblyd's greeting
        for line in lines:
            delivery = json.loads(line)
            done = subprocess.run(["/bin/sh", "-c", script], env=_environ(delivery), check=False)
            code, number = done.returncode, delivery["number"]
            print(f"retry {number} 0 exit status {code}" if code else f"ok {number}", file=answers)


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
