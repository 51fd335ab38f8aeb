"""Tests as another user than the one who runs them."""

import os

# Root, but one whom a file's mode stops as it stops others.
OBEYING_MODES = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)
