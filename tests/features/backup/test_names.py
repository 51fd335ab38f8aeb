"""Names of copies: they sort as the copies do, and nothing else is taken for one."""

import os
from pathlib import Path

from premblyd.features.backup.copying import CopyName, copies_in, parse
from tests.support.rows import for_each

RECORD, DIGEST = "0a1b2c3d", "0123456789abcdef"
WHOLE = "premblyd-0a1b2c3d-000000000010-001-0123456789abcdef.db"


def test_names_sort_as_their_copies() -> None:
    numbers = [(0, 1), (9, 2), (9, 10), (10, 1), (10**9, 1)]
    copies = [CopyName(RECORD, *each, DIGEST) for each in numbers]
    assert sorted(copies) == copies
    assert sorted(map(str, copies)) == [str(copy) for copy in copies]
    assert str(copies[3]) == WHOLE
    largest = CopyName(RECORD, 2**63 - 1, 12_345, DIGEST)
    assert [parse(str(copy)) for copy in [*copies, largest]] == [*copies, largest]


@for_each(
    "name",
    [
        *("premblyd.db", "premblyd-0a1b2c3d-000000000010-001.db", f"{WHOLE}-wal", f"{WHOLE}\n"),
        "premblyd-0a1b2c3d-10-1-0123456789abcdef.db",
        "premblyd-0a1b2c3d-0000000000010-001-0123456789abcdef.db",  # one zero too many
        "premblyd-0A1B2C3D-000000000010-001-0123456789abcdef.db",
        WHOLE.replace("000000000010", "\u0660" * 10 + "\u0661\u0660"),
    ],
)
def test_another_name_is_none(name: str) -> None:
    assert parse(name) is None


def test_only_regular_files_are_listed_and_only_of_the_record_asked_for(tmp_path: Path) -> None:
    known = [(RECORD, 2), (RECORD, 10), ("ffffffff", 1)]
    copies = [CopyName(record, number, 1, DIGEST) for record, number in known]
    for copy in copies:
        (tmp_path / str(copy)).touch()
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / str(CopyName(RECORD, 11, 1, DIGEST)))
    (tmp_path / str(CopyName(RECORD, 12, 1, DIGEST))).symlink_to(tmp_path / "notes.txt")
    (tmp_path / str(CopyName(RECORD, 13, 1, DIGEST))).mkdir()
    assert copies_in(tmp_path) == copies
    assert copies_in(tmp_path, RECORD) == copies[:2]
