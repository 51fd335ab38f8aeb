"""What a company's handler does least: it reads an event. As a worker hook for each line; with an
argument for that alone, as adnanh/webhook runs it.

    python tests/bench/handler.py [EVENT]
"""

import json
import sys


def work() -> None:
    """Answer `ok` to each line, as docs/worker-protocol.md has it."""
    with open(3, "rb") as lines, open(4, "wb", buffering=0) as answers:
        next(lines)  # premblyd's greeting
        answers.write(b"ready 1\n")
        for line in lines:
            answers.write(b"ok %d\n" % json.loads(line)["number"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        json.loads(sys.argv[1])
    else:
        work()
