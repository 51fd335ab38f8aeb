"""Tests as another user than the one who runs them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.forking import import_all

NOBODY = 65534
# Root, but one whom a file's mode stops as it stops others.
OBEYING_MODES = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
# Root, but one who may look into processes no further than a plain user into those of his own.
WITHOUT_PTRACE = (
    ["setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-perfmon"] if os.geteuid() == 0 else []
)


@contextmanager
def plain_user() -> Iterator[None]:
    """Be a user without rights meanwhile; a plain user is one already.

    All of premblyd is imported before: the checkout may lie in a closed folder of root's.
    """
    if os.geteuid() != 0:
        yield
        return
    import_all()
    os.setresuid(NOBODY, NOBODY, 0)  # access(2) asks the real one
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
