"""What pages to print have in common, a dossier's and a certificate's: one HTML file each, which
loads nothing and runs nothing. All text passes through `text`, or is ours."""

import html
import importlib.resources
import string
from typing import Any

from premblyd.words import visible


def beginning(title: str) -> str:
    """Return a page up to what is in its body, with its style."""
    template = importlib.resources.files(__package__).joinpath("printed.html").read_text("utf-8")
    return string.Template(template).substitute(title=text(title))


def text(value: Any) -> str:
    """Return a text as HTML in which nothing hides and nothing does anything."""
    return html.escape(visible(value), quote=True)
