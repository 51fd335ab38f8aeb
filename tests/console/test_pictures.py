"""README's pictures of the console can be made anew."""

from pathlib import Path

import pytest

from tests.console import pictures
from tests.support.chromium import WIDE, needs_chromium

pytestmark = pytest.mark.browser

MAX_BYTES = 300_000


@needs_chromium
def test_the_pictures_are_made_anew(tmp_path: Path) -> None:
    made = pictures.take(tmp_path)
    assert [picture.name for picture in made] == ["console-overview.png", "console-event.png"]
    for picture in made:
        kept = pictures.ROOT / "docs" / picture.name
        for each in (picture, kept):
            content = each.read_bytes()
            assert content.startswith(b"\x89PNG")
            assert int.from_bytes(content[16:20], "big") == WIDE
            assert len(content) < MAX_BYTES
