"""The pages' own lines, for tests that do what they say: never a copy of them."""

import re

from tests.support.pages import BLOCKS, EVERYTHING

DROP_IN = ("text", "# Write to a folder:")
OTHER_PORT = ("text", "ListenStream=127.0.0.1:9090")
UNIX_SOCKET = ("text", "SocketGroup=www-data")
CHANGE_ADDRESS = ("sh", "stop premblyd.socket premblyd.service &&")
NGINX = ("nginx", "http://127.0.0.1:8080")


def block(tag: str, part: str) -> str:
    """Return the text of the block with this tag that holds `part`; several must be the same."""
    found = {block.text for block in BLOCKS if block.tag == tag and part in block.text}
    assert len(found) == 1, f"the pages have {len(found)} blocks `{tag}` with {part}"
    return found.pop()


def as_root(tag: str, part: str) -> str:
    """Return a block of commands as they are in a machine without sudo: run by root."""
    text = re.sub(r"^(.*)\bsudo -u (\w+) ", r"\1runuser -u \2 -- ", block(tag, part), flags=re.M)
    return text.replace("sudo ", "")


def inline(part: str) -> list[str]:
    """Return what stands in backticks and begins with `part`."""
    return re.findall(rf"`({re.escape(part)}[^`]*)`", EVERYTHING)
