"""Masking what hooks printed: a hook may print the body, or what it made of it.

An on-call person needs the words of a hook that failed. So its output is shown without numbers,
addresses and long codes, and without every text that is masked in the body. A text may stand there
in another spelling: quoted for a URL, as base64, in pieces. Where one is found in such a form, the
whole output is masked, for then nobody can say what else is in it.
"""

import base64
import functools
import html
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_plus

from premblyd.privacy.documents import MASK, NUMBER, mask_text
from premblyd.privacy.vocabulary import VOCABULARY

MAX_TEXTS = 20_000  # for a body with more hidden texts, no output is shown
MAX_TEXT_CHARS = 1024  # longer texts are photos and the like; pieces of those are long codes
MAX_SEARCHED = 100_000  # for its words; who writes more of them gets no output shown
PART_CHARS = 4096  # shown of each end of a long output
_WORD = re.compile(r"[^\W\d_]{3,}")
_DOMAIN = re.compile(r"@[\w.-]+")
_BLOB = re.compile(r"(?:data:[\w/;+.-]+,)?[A-Za-z0-9+/=_\s-]+")
_CODE = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
_HEX = re.compile(r"[0-9a-fA-F]{16,}")


class Hidden:
    """The texts of a body that are not shown. `texts` None: it is not known which, so every output
    may hold some and none is shown."""

    def __init__(self, texts: Iterable[str] | None) -> None:
        self._all = texts is None
        self._texts: set[str] = set()
        for text in texts or ():
            is_too_long = len(text) > MAX_SEARCHED and not _BLOB.fullmatch(text)
            self._texts |= set() if is_too_long else set(_pieces(text))
            if is_too_long or len(self._texts) > MAX_TEXTS:
                self._all = True
                break
        self._starts: dict[str, list[str]] = {}
        for text in self._texts:
            self._starts.setdefault(text[:3], []).append(text)
        self.mask = functools.lru_cache(maxsize=64)(self._mask)  # attempts often print the same

    def _mask(self, output: str, shown: tuple[str, ...] = (), is_cut: bool = False) -> str:
        """Return a hook's output as it is shown. `shown`: references and keys that may stand in
        it. `is_cut`: it was longer, so it may end within a text."""
        if not output or self._all:
            return MASK if output else ""
        parts = _ends(output)
        masked = [self._mask_part(part, shown, is_cut and part is parts[-1]) for part in parts]
        if len(parts) == 1:
            return masked[0]
        left_out = len(output) - sum(map(len, parts))
        return f"{masked[0]}\n… {left_out:,} characters …\n{masked[1]}"

    def _mask_part(self, output: str, shown: tuple[str, ...], is_cut: bool) -> str:
        names = [re.escape(text) for text in shown if text]
        # What may be shown is put aside; with one group, split() returns it at each odd place.
        pieces = re.split(f"({'|'.join(names)})", output) if names else [output]
        rest = "\n".join(pieces[::2])
        plain = self.without(rest)
        if is_cut:
            plain = self._without_beginning(plain)
        if self._is_in_disguise(plain):
            return f"{MASK} ({len(output):,} characters that hold a part of the body)"
        whole = "".join(
            piece if at % 2 else _without_codes(mask_text(self.without(piece)))
            for at, piece in enumerate(pieces)
        )
        if is_cut:
            whole = self._without_beginning(whole)
        spelled = _squeezed(_without_codes(mask_text(plain)))
        if self._holds(spelled, least=6) or self._holds_number(spelled):
            return f"{MASK} ({len(output):,} characters that hold a part of the body)"
        return whole

    def without(self, text: str) -> str:
        """Replace every hidden text, whatever its case."""
        found = sorted(self._found(text.lower(), least=3), key=len, reverse=True)
        if not found:
            return text
        pattern = "|".join(
            rf"\b{re.escape(each)}\b" if len(each) == 3 else re.escape(each) for each in found
        )
        return re.sub(pattern, MASK, text, flags=re.IGNORECASE)

    def _without_beginning(self, text: str) -> str:
        """Mask what may be the beginning of a hidden text at the end of `text`."""
        low = text.lower()
        for start in range(max(0, len(low) - MAX_TEXT_CHARS), len(low) - 2):
            tail = low[start:]
            if any(each.startswith(tail) for each in self._starts.get(tail[:3], ())):
                return text[: start - len(low)] + MASK
        return text

    def _is_in_disguise(self, text: str) -> bool:
        return any(
            self._holds(form.lower(), least=4) or self._holds(_squeezed(form), least=6)
            for form in _decoded(text)
        )

    def _holds(self, text: str, *, least: int) -> bool:
        return any(True for _ in self._found(text, least=least))

    def _found(self, text: str, *, least: int) -> Iterator[str]:
        starts = {text[at : at + 3] for at in range(len(text) - 2)}
        for start in starts & self._starts.keys():
            for hidden in self._starts[start]:
                if len(hidden) >= least and hidden in text:
                    yield hidden

    def _holds_number(self, text: str) -> bool:
        digits = "".join(filter(str.isdigit, text))
        return any(len(each) >= 7 and each.isdigit() for each in self._found(digits, least=7))


def _pieces(text: str) -> Iterator[str]:
    """Yield what is looked for of a hidden text: itself, its words and its numbers."""
    if len(text) >= MAX_TEXT_CHARS and _BLOB.fullmatch(text):
        return
    low = text.lower()
    if 3 <= len(low) <= MAX_TEXT_CHARS and low not in VOCABULARY:
        yield low
        if len(squeezed := _squeezed(low)) > 5:
            yield squeezed
    own = _DOMAIN.sub("", low)  # the domain of an e-mail address names nobody
    yield from (word for word in _WORD.findall(own) if word not in VOCABULARY)
    for number in NUMBER.findall(low):
        yield number
        yield "".join(filter(str.isdigit, number))


def _squeezed(text: str) -> str:
    """Return the letters and digits of `text` alone, in lower case."""
    return "".join(filter(str.isalnum, text.lower()))


def _ends(output: str) -> list[str]:
    """Return an output, of a long one its first and last part, neither cut within a word."""
    if len(output) <= 3 * PART_CHARS:
        return [output]
    first = re.sub(r"\S*\Z", "", output[:PART_CHARS])
    last = re.sub(r"\A\S*", "", output[-PART_CHARS:])
    return [first, last]


def _without_codes(text: str) -> str:
    """Mask long codes: digests, tokens, anything packed or encrypted."""
    return _CODE.sub(_plain_word, _HEX.sub(MASK, text))


def _plain_word(found: re.Match[str]) -> str:
    """Return a long run of letters when it is a path or made of words, else the mask."""
    run = found[0]
    for piece in run.split("/") if run.startswith("/") else [run]:
        kinds = sum(any(map(kind, piece)) for kind in (str.isdigit, str.isupper, str.islower))
        turns = len(re.findall(r"[a-z][A-Z]|[A-Z]{2}[a-z]", piece))
        is_padded = kinds > 1 and piece.endswith("=")
        if len(piece) >= 12 and (kinds > 2 or is_padded or turns > len(piece) // 5):
            return MASK
    return run


def _decoded(text: str) -> Iterator[str]:
    """Yield `text` as it reads once an encoding is undone: base64, hex, escapes, backwards."""
    yield text[::-1]
    for form in (unquote_plus(text), html.unescape(text), _unescaped(text), _unquoted(text)):
        if form != text:
            yield form
            yield unquote_plus(html.unescape(_unescaped(form)))
    for source in (text, "".join(text.split())):
        for decode in (_from_base64, _from_base32, _from_hex):
            yield "\n".join(decode(source))


def _unescaped(text: str) -> str:
    """Undo JSON's and Python's escapes."""
    return re.sub(
        r"\\u\{?([0-9a-fA-F]{4})\}?|\\x([0-9a-fA-F]{2})|\\([0-7]{3})",
        lambda found: chr(int(found[3], 8) if found[3] else int(found[1] or found[2], 16)),
        text,
    )


def _unquoted(text: str) -> str:
    """Undo quoted-printable."""
    plain = re.sub(r"=\r?\n", "", text)
    return re.sub(
        r"(?:=[0-9A-Fa-f]{2})+",
        lambda found: bytes.fromhex(found[0].replace("=", "")).decode(errors="replace"),
        plain,
    )


def _from_base64(text: str) -> Iterator[str]:
    for run in re.findall(r"[A-Za-z0-9+/_-]{4,}", text):
        plain = run.replace("-", "+").replace("_", "/")
        for start in range(min(4, len(plain))):
            part = plain[start:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            part += "=" * (-len(part) % 4)
            yield base64.b64decode(part).decode(errors="replace")


def _from_base32(text: str) -> Iterator[str]:
    for run in re.findall(r"[A-Z2-7]{8,}|[a-z2-7]{8,}", text):
        for start in range(min(8, len(run) - 4)):
            part = run[start:].upper()
            part = part[: len(part) - (len(part) % 8 in (1, 3, 6))]  # no base32 has such a length
            yield base64.b32decode(part + "=" * (-len(part) % 8)).decode(errors="replace")


def _from_hex(text: str) -> Iterator[str]:
    dense = re.sub(r"0x|\\x|[\s:,.-]", "", text)
    for run in re.findall(r"[0-9a-fA-F]{6,}", dense):
        for start in (0, 1):
            part = run[start:]
            yield bytes.fromhex(part[: len(part) - len(part) % 2]).decode(errors="replace")
