"""Media in a body: photos, signatures, fingerprints and whatever else is long and encoded, found
and replaced by a marker, whatever the body is: JSON, JSON in a text of JSON, a form, parts.

The raw bytes are edited and never written anew, so all others stay as they came. What is found goes
whole, with the escapes in it, and what is put there needs none: what was JSON is JSON still, at
every depth. Nothing found can be a number: it has letters that none has.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Encoded characters that say by their beginning what they are may be as few (a photo of one pixel
# has 92), others must be more: a SHA-512 has 128, a signature by a key of 2,048 bits 344.
MIN_NAMED = 48
MIN_NAMED_HEX = 128
MIN_LONG = 512
_MIN_LINE = 32


def replace_media(body: bytes) -> bytes | None:
    """Return `body` with each of its media replaced by a marker with its length and its SHA-256;
    None: it has none. The same body always becomes the same, and that has no media."""
    changed = body
    for find in (_parts, _quoted_images, _encoded):
        changed = _replaced(changed, find(changed))
    return None if changed is body else changed


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int


def _replaced(body: bytes, spans: Iterator[_Span]) -> bytes:
    pieces, done = [], 0
    for span in spans:
        pieces += [body[done : span.start], _marker(body[span.start : span.end])]
        done = span.end
    return b"".join([*pieces, body[done:]]) if pieces else body


def _marker(taken: bytes) -> bytes:
    # No space and no quote: what is beside it must look as it did, the next time too.
    digest = hashlib.sha256(taken).hexdigest()
    return f"[media-removed:{len(taken)}-bytes:sha256:{digest}]".encode()


# A body, or a part of one in parts, that is an image as it is.
_PART = re.compile(
    rb"(?:\A|\r\n\r\n)"
    rb"(\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF[\s\S]{4}WEBP|%PDF-|\xff\xa0\xff)"
)


def _parts(body: bytes) -> Iterator[_Span]:
    if b"\r\n\r\n" not in body and not _PART.match(body):  # a tenth of the time of the search
        return
    place = 0
    while match := _PART.search(body, place):
        end = body.find(b"\r\n--", match.end())
        place = len(body) if end < 0 else end
        yield _Span(match.start(1), place)


# An image in a URL of its own, as text: <svg> with its signs as %3Csvg%3E.
_QUOTED_IMAGE = re.compile(
    rb"data:image/[A-Za-z0-9.+-]{1,40}(?:;[A-Za-z0-9=_-]{1,40}){0,3},"
    rb"([A-Za-z0-9%._~!$&'()*+;:@/?=-]{48,})",
    re.IGNORECASE,
)


def _quoted_images(body: bytes) -> Iterator[_Span]:
    if b"data:image" not in body.lower():  # a tenth of the time of the search
        return
    for match in _QUOTED_IMAGE.finditer(body):
        if b"%" in match[1]:
            yield _Span(*match.span(1))


# No group is repeated possessively: Python before 3.11.5 matches that wrongly. Instead, no two of
# what a group may be begin alike but for backslashes, so nothing is tried in many ways; and each is
# repeated a few times only, since each time takes memory.
#
# Backslashes: JSON in a text of JSON has more than one before what it escapes, and some encoders
# write one as \u005c. 63 are before a sign that is six texts deep.
_ESCAPE = rb"\\{1,63}(?:u005[cC]\\{0,63}){0,63}"
_PLAIN = rb"[A-Za-z0-9+/_-]"
_ESCAPED = _ESCAPE + rb"(?:/|u00(?:2[bBfFdD]|5[fF]))|%(?:2[bBfFdD]|5[fF])"
_PAD = rb"(?:=|" + _ESCAPE + rb"u003[dD]|%3[dD])"
_WRAP = rb"\r\n?|\n|%br(?:%bn)?|%bn" % (_ESCAPE, _ESCAPE, _ESCAPE)
_AFTER_LINE = rb"(?=[\r\n\\])(?<=[A-Za-z0-9+/_=%\\-]{32})"  # encoders write lines of 60 to 76
# Not in the middle of an escape, and nowhere else in what was passed over as too short: so each
# byte is looked at a few times, whatever the body is.
_BEGINNING = (
    rb"(?:(?<![A-Za-z0-9+/_=%\\-])|(?<=\\[bfnrtx])|(?<=\\u005[cC][bfnrt])|(?<==)"
    rb"|(?<=\\u[0-9A-Fa-f]{4})(?<!\\u00(?:2[bBfFdD]|5[cCfF]))"
    rb"|(?<=%[0-9A-Fa-f]{2})(?<!%(?:2[bBfFdD]|5[fF])))"
)
_RUN = re.compile(
    rb"(?=[A-Za-z0-9+/_%%\\-]{48})%b(?:%b{48}|(?:%b|%b){48})"
    % (_BEGINNING, _PLAIN, _PLAIN, _ESCAPED)
)
_MORE = re.compile(rb"(?:%b+|%b(?:%b)|%b){1,500}" % (_PLAIN, _AFTER_LINE, _WRAP, _ESCAPED))
_PADS = re.compile(_PAD + rb"{0,2}")
_LINE_END = re.compile(_WRAP)
_IN_WRAP = (b"\n", b"\r", b"\\")


def _runs(body: bytes) -> Iterator[_Span]:
    """Yield where it is encoded without a break, but for ends of lines."""
    place = 0
    while run := _RUN.search(body, place):
        place = run.end()
        while more := _MORE.match(body, place):
            place = more.end()
        if pads := _PADS.match(body, place):
            place = pads.end()
        yield _Span(run.start(), place)


def _encoded(body: bytes) -> Iterator[_Span]:
    tokens = _Tokens(body)
    for run in _runs(body):
        for span, text in _blocks(body, run.start, run.end):
            if len(text) >= MIN_NAMED and (
                _is_named(text)
                or _is_after_data(body, span.start, text)
                or (len(text) >= MIN_LONG and _is_long(text) and not tokens.has(span))
            ):
                yield span


def _blocks(body: bytes, start: int, end: int) -> Iterator[tuple[_Span, bytes]]:
    """Yield what one encoder may have written: lines of the same length, and a last one that may be
    shorter. Others that stand below each other are on their own."""
    lines = []
    # Most have none, which is found out in a tenth of the time of the search.
    if any(body.find(sign, start, end) >= 0 for sign in _IN_WRAP):
        for wrap in _LINE_END.finditer(body, start, end):
            lines.append(_Span(start, wrap.start()))
            start = wrap.end()
    lines.append(_Span(start, end))
    block: list[tuple[_Span, bytes]] = []
    for line in lines:
        text = _decoded(body[line.start : line.end])
        if block:
            width, last = len(block[0][1]), len(block[-1][1])
            if last != width or len(text) > width or width < _MIN_LINE:
                yield _joined(block)
                block = []
        block.append((line, text))
    yield _joined(block)


def _joined(block: list[tuple[_Span, bytes]]) -> tuple[_Span, bytes]:
    whole = _Span(block[0][0].start, block[-1][0].end)
    return whole, b"".join(text for _, text in block)


_UNESCAPE = tuple(
    (re.compile(rf"{_ESCAPE.decode()}{escaped}|%{code}"), plain)
    for escaped, code, plain in (
        (r"(?:/|u002[fF])", r"2[fF]", "/"),
        (r"u002[bB]", r"2[bB]", "+"),
        (r"u002[dD]", r"2[dD]", "-"),
        (r"u005[fF]", r"5[fF]", "_"),
        (r"u003[dD]", r"3[dD]", "="),
    )
)


def _decoded(text: bytes) -> bytes:
    """Return what was encoded, without what JSON or a form did to it."""
    text = text.replace(b"\\/", b"/")  # as most escapes are: half the time
    if b"\\" in text or b"%" in text:
        unescaped = text.decode()  # of ten million escapes, bytes would take 500 MB more
        for escaped, plain in _UNESCAPE:
            unescaped = escaped.sub(plain, unescaped)
        text = unescaped.encode()
    return text.rstrip(b"=")


_DATA_BYTES = 20
_AFTER_DATA = re.compile(rb";base64(?:,|\\+u002[cC])\Z|(?:;|%3[bB])base64%2[cC]\Z", re.IGNORECASE)


def _is_after_data(body: bytes, start: int, text: bytes) -> bool:
    """Return whether a data: URL says that what begins here is encoded."""
    before = body[max(0, start - _DATA_BYTES) : start]
    has_letters = _count(text, _UPPER) > 0 and _count(text, _LOWER) > 0  # as no number has
    return has_letters and _AFTER_DATA.search(before) is not None


class _Tokens:
    """Knows what is a part of a URL, or of a token in parts such as a JWT. To be asked in the order
    of the body."""

    _ENDS = (b" ", b"\t", b"\r", b"\n", b'"', b"'", b"<", b">")
    _SCHEME = re.compile(rb":\\*/\\*/")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._seen = 0
        self._is_url = False

    def has(self, span: _Span) -> bool:
        """Return whether what is there is such a part."""
        end = max(self._body.rfind(end, self._seen, span.start) for end in self._ENDS)
        self._is_url = (self._is_url and end < 0) or (
            self._SCHEME.search(self._body, max(self._seen, end), span.start) is not None
        )
        self._seen = span.start
        around = (
            self._body[max(0, span.start - 1) : span.start],
            self._body[span.end : span.end + 1],
        )
        return self._is_url or b"." in around


# By what begins: JPEG, PNG, GIF, RIFF (WebP, WAV), BMP, TIFF, JPEG 2000, WSQ (fingerprints),
# MP4 and HEIC, Matroska, Ogg, PDF, SVG, and what ISO 19794 has of fingers and faces.
_NAMED = re.compile(
    rb"/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3][A-Za-z0-9+/]{5}AAAA|SUkqA|TU0AK|/0//UQ|AAAADGpQICANCo"
    rb"|/6D/[pq]|AAAA[A-Za-z0-9+/]GZ0eX[A-D]|GkXfo|T2dnU|JVBERi0|PHN2Zy|Rk1SA|RklSA|RkFDA"
)
_NAMED_HEX = re.compile(rb"(?:0x)?(?:ffd8ff|89504e470d0a1a0a|474946383[79]61|52494646|25504446)")
_HEX = re.compile(rb"(?:0x)?[0-9a-f]+")
_UPPER = bytes(range(ord("B"), ord("Z") + 1))  # A is what zeros are, of which there may be many
_LOWER = bytes(range(ord("a"), ord("z") + 1))
_DIGITS = b"0123456789"
_MIN_MIXED = 32  # characters that are no A


def _is_named(text: bytes) -> bool:
    if _NAMED.match(text.replace(b"-", b"+").replace(b"_", b"/")):
        return True
    lower = text.lower()
    return len(text) >= MIN_NAMED_HEX and _is_hex(lower) and bool(_NAMED_HEX.match(lower))


def _is_long(text: bytes) -> bool:
    """Return whether a long text is of an encoder's alphabet, mixed as encoders mix it: no path,
    and no words."""
    if _is_hex(text.lower()):
        return True
    if (b"-" in text or b"_" in text) and (b"+" in text or b"/" in text):
        return False
    count = len(text) - text.count(b"A")
    return (
        count >= _MIN_MIXED
        and _count(text, _UPPER) * 12 > count
        and _count(text, _LOWER) * 12 > count
        and _count(text, _DIGITS) * 50 > count
    )


def _is_hex(lower: bytes) -> bool:
    """Return whether it is hexadecimal, and no number: that has no letters but an e."""
    return _HEX.fullmatch(lower) is not None and {*b"abcdf"} <= {*lower}


def _count(text: bytes, of: bytes) -> int:
    return len(text) - len(text.translate(None, of))
