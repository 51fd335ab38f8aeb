"""What `premblyd check` says besides."""

from premblyd.features.tryout import lint

WARNINGS = (lint.warnings,)
