"""What the canary campaign would find: else that it finds nothing says nothing."""

import base64
import json
import random
from urllib.parse import quote

from tests.support.canaries import Marks, photo
from tests.support.rows import for_each

NAME = "Ọlábísí «erased-1f»"
PHOTO = photo(random.Random(1), 2000)
CODED = base64.b64encode(PHOTO).decode()
MARKS = Marks.of({"name": NAME}, photos=[PHOTO])


@for_each(
    "content",
    [
        NAME.encode(),
        NAME.encode().hex().encode(),
        NAME.encode("utf-16-le"),
        NAME.encode("utf-16-be"),
        json.dumps({"name": NAME}).encode(),
        json.dumps([json.dumps({"name": NAME})]).encode(),
        quote(f"a {NAME}").encode(),
        *(base64.b64encode(b"<" * before + NAME.encode() + b"> and more") for before in range(4)),
        base64.urlsafe_b64encode(f"??>>{NAME}??>>".encode()),
        PHOTO[350:900],
        json.dumps({"photo": CODED[300:1000]}).encode(),
        base64.b64encode(b"{" + CODED.encode() + b"}"),
    ],
)
def test_a_mark_is_found_in_every_encoding(content: bytes) -> None:
    assert MARKS.found_in(b"\0before" + content + b"after\0")


def test_nothing_is_found_where_no_mark_is() -> None:
    others = photo(random.Random(2), 4000)
    assert MARKS.found_in(others + base64.b64encode(others) + b"erased-1e") == []
