"""As whom root works on a database, which belongs to the service's user: whatever somebody puts in
its way there, it can do no more than the service."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def become_owner(database: Path) -> None:
    """From here on, root is the user whom the database belongs to."""
    with contextlib.suppress(FileNotFoundError):  # whoever opens it says so
        owner = _owner_of(database)
        if os.geteuid() == 0 and owner.st_uid:
            os.setgroups([owner.st_gid])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)


@contextlib.contextmanager
def as_owner(database: Path) -> Iterator[None]:
    """Have root be that user for as long as it is entered."""
    owner = _owner_of(database)
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _owner_of(database: Path) -> os.stat_result:
    """Return to whom a database belongs: its file, or its folder. Whoever has made a link to it,
    and is not root, may do no more there than before."""
    found = database if os.path.lexists(database) else database.parent
    link = found.lstat()
    return link if link.st_uid else found.stat()
