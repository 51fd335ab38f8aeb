"""What setup.cfg can't say: README as an index shows it, without links into this tree."""

import re
from pathlib import Path

from setuptools import setup

PAGES = "## Pages\n"
WHERE = "\nThey are in the source distribution, and in each checkout.\n"


def for_an_index(readme: str) -> str:
    """Return README without its pictures, with the names of pages where it links to them."""
    readme = re.sub(r"!\[[^\]]*\]\([^)]*\)\n\n", "", readme)
    readme = re.sub(r"^(- .*\?) \[[^\]]*\]\((?!https:)([^)]*)\)$", r"\1 `\2`", readme, flags=re.M)
    readme = re.sub(r"\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", readme)
    return readme.replace(PAGES, PAGES + WHERE)


setup(long_description=for_an_index(Path("README.md").read_text(encoding="utf-8")))
