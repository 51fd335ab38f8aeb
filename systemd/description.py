"""What is built otherwise than it lies here; setup.cfg names it. An index shows README without
pictures and links into this tree, and what is built says of which commit it is."""

import re
from pathlib import Path

from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info


class Versioned(build_py):
    """Writes the whole version into the package that is built."""

    def run(self) -> None:
        super().run()
        package = Path(self.build_lib, "premblyd/__init__.py")
        if package.exists():  # not where the tree itself is used (pip install -e)
            version = f'__version__ = "{self.distribution.get_version()}"'
            package.write_text(re.sub("(?m)^__version__ = .*$", version, package.read_text()))


class Described(egg_info):
    """Writes a distribution's metadata, of a README that stands alone."""

    def run(self) -> None:
        about = self.distribution.metadata
        about.long_description = for_an_index(about.long_description)
        super().run()


def for_an_index(readme: str) -> str:
    """Return README without its pictures, with the names of pages where it links to them."""
    readme = re.sub(r"!\[[^\]]*\]\([^)]*\)\n\n", "", readme)
    readme = re.sub(r"^(- .*\?) \[[^\]]*\]\((?!https:)([^)]*)\)$", r"\1 `\2`", readme, flags=re.M)
    return re.sub(r"\[([^\]]*)\]\((?!https:)[^)]*\)", r"\1", readme)
