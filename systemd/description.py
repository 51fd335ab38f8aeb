"""What an index shows: README without pictures and links into this tree. setup.cfg names it."""

import re

from setuptools.command.egg_info import egg_info


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
