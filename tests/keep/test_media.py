"""Media in bodies are replaced by what they were; nothing else is touched."""

import base64
import hashlib
import json
import os
import re
import textwrap
import tracemalloc
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from premblyd.prembly.media import MIN_LONG, replace_media
from tests.support.rows import for_each

PAYLOADS = Path(__file__).parents[1] / "payloads"
MARKER = re.compile(rb"\[media-removed:(\d+)-bytes:sha256:([0-9a-f]{64})\]")
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 3
PHOTO = base64.b64encode(JPEG).decode()
TEMPLATE = base64.b64encode(hashlib.shake_128(b"finger").digest(400)).decode()


def marker_of(taken: bytes) -> bytes:
    digest = hashlib.sha256(taken).hexdigest()
    return f"[media-removed:{len(taken)}-bytes:sha256:{digest}]".encode()


def replaced(body: bytes) -> bytes:
    changed = replace_media(body)
    assert changed is not None
    assert replace_media(changed) is None, "what was replaced stays as it is"
    return changed


def test_a_photo_becomes_its_length_and_digest_and_all_else_stays() -> None:
    body = b'{ "photo" : "%b",\n\t"nin":"11100000042" }' % PHOTO.encode()
    assert replaced(body) == body.replace(PHOTO.encode(), marker_of(PHOTO.encode()))


JSON = json.dumps({"photo": PHOTO, "list": [{"image": TEMPLATE}]})
BODIES = {
    "JSON": JSON,
    "slashes as PHP has them": JSON.replace("/", "\\/"),
    "signs as .NET has them": JSON.replace("+", "\\u002B").replace("=", "\\u003D"),
    "JSON in JSON": json.dumps({"data": JSON}),
    "JSON in JSON in JSON": json.dumps([json.dumps([JSON.replace("/", "\\/")])]),
    "backslashes as code points": json.dumps({"data": JSON.replace("/", "\\/")}).replace(
        "\\\\", "\\u005c"
    ),
    "lines": json.dumps({"a": "\r\n".join(textwrap.wrap(PHOTO, 76)), "b": TEMPLATE}),
    "lines in JSON in JSON": json.dumps([json.dumps(["\n".join(textwrap.wrap(PHOTO, 64))])]),
    "data: URL": json.dumps({"photo": f"data:image/jpeg;base64,{PHOTO}"}),
    "of an alphabet for URLs": JSON.replace("+", "-").replace("/", "_"),
    "hexadecimal": json.dumps({"photo": JPEG.hex(), "more": "\\x" + JPEG.hex().upper()}),
    "form": urlencode({"photo": PHOTO, "template": TEMPLATE}),
    "form with a data: URL": urlencode({"photo": f"data:image/png;base64,{TEMPLATE}"}),
    "text": f"The photo:\n{PHOTO}\nand this:\n" + "\n".join(textwrap.wrap(TEMPLATE, 76)),
    "XML": f"<photo>{PHOTO}</photo><finger>{TEMPLATE}</finger>",
    "signature as text": '{"sign":"data:image/svg+xml;charset=utf8,'
    + quote("<svg>" + "<path d='M0 0'/>" * 9)
    + '"}',
}


@for_each("body", BODIES.values())
def test_media_are_found_however_they_are_written(body: str) -> None:
    changed = replaced(body.encode())
    assert MARKER.search(changed)
    assert not re.search(rb"[A-Za-z0-9+/=\\-]{65,}|%3C", MARKER.sub(b"", changed))
    if body[0] in "[{":
        assert kept_shape(json.loads(changed)) == kept_shape(json.loads(body))


def kept_shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: kept_shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kept_shape(item) for item in value]
    if isinstance(value, str) and value[:1] in "[{" and not value.startswith("[media"):
        return kept_shape(json.loads(value))
    return type(value)


def test_an_image_that_is_a_part_of_a_body_as_it_is_goes_too() -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="photo"\r\n\r\n'
    body = head + JPEG + b"\r\n--x\r\n\r\nkept\r\n--x--"
    assert replaced(body) == head + marker_of(JPEG) + b"\r\n--x\r\n\r\nkept\r\n--x--"
    assert replaced(JPEG) == marker_of(JPEG)


KEPT = {
    "a reference": "00000000-0000-4000-8000-0000000a0001",
    "a SHA-512": hashlib.sha512(b"").hexdigest(),
    "a signature of 2,048 bits": base64.b64encode(os.urandom(256)).decode(),
    "a JWT": ".".join(
        base64.urlsafe_b64encode(b'{"Alg":1,"N2":"xYz"}' * 50).decode() for _ in "123"
    ),
    "a URL": "https://cdn.example.com/photos/" + TEMPLATE,
    "a URL as PHP has it": "https:\\/\\/cdn.example.com\\/x?token=" + TEMPLATE,
    "a path": "/srv/Data/Photos2026" * 40 + "-small_and-Large",
    "words": "The applicant's Address is 12 Sample Street, Benin. " * 60,
    "words without spaces": "residential-address-of-the-applicant-" * 40,
    "a list of lines": "\n".join(f"Reference{number}" for number in range(200)),
    "a long number": "12345678901234567890" * 60,
    "zeros": "A" * 5000,
    "digits": "0" * 5000,
}


@for_each("text", KEPT.values())
def test_what_is_long_and_no_media_stays(text: str) -> None:
    for body in (json.dumps({"x": text}), f'{{"x": "{text}"}}', text):
        assert replace_media(body.encode()) is None


def test_a_long_number_in_json_stays_a_number() -> None:
    for number in ("7" * 900, "1e" + "5" * 900, "474946383961" + "1" * 200, "-0." + "89504" * 200):
        assert replace_media(f'{{"x":{number}}}'.encode()) is None


def test_of_prembly_s_samples_the_images_go_and_nothing_else() -> None:
    with_images = {"01_api_nin_00", "02_api_bvn_00", "10_sdk_new_widget_empty_code"}
    with_images |= {"19_document_verification"}
    found = set()
    for path in PAYLOADS.glob("[0-9]*.json"):
        body = path.read_bytes()
        if changed := replace_media(body):
            found.add(path.stem)
            image = re.search(rb"iVBORw0KGgo[^\"]+", body)
            assert image is not None
            assert changed == body.replace(image[0], marker_of(image[0]))
    assert found == with_images


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


MEDIA = st.one_of(
    st.binary(min_size=60, max_size=300).map(lambda data: encoded(b"\xff\xd8\xff\xe0" + data)),
    st.integers(MIN_LONG, 3000).map(lambda size: encoded(hashlib.shake_128(b"x").digest(size))),
    st.binary(min_size=70, max_size=300).map(lambda data: (b"\xff\xd8\xff\xab\xcd" + data).hex()),
)
PLAIN = st.one_of(st.text(max_size=80), st.integers(), st.booleans(), st.none())
DOCUMENTS = st.recursive(
    PLAIN | MEDIA.map(lambda text: {"photo": text}),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


def with_markers(value: object, depth: int) -> object:
    """What the document should be: by the texts that were put in as media."""
    if isinstance(value, dict) and set(value) == {"photo"} and isinstance(value["photo"], str):
        return {"photo": None}
    if isinstance(value, dict):
        return {name: with_markers(item, depth) for name, item in value.items()}
    if isinstance(value, list):
        return [with_markers(item, depth) for item in value]
    return value


@given(DOCUMENTS, st.integers(0, 2), st.booleans(), st.booleans())
def test_in_any_json_the_media_go_and_all_other_values_stay(
    document: object, depth: int, slashes: bool, ascii_only: bool
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    for _ in range(depth):
        text = json.dumps([text.replace("/", "\\/") if slashes else text])
    body = text.encode("utf-8", "surrogatepass")
    found: object = json.loads(replace_media(body) or body)
    for _ in range(depth):
        assert isinstance(found, list)
        found = json.loads(found[0])
    assert with_markers(found, depth) == with_markers(document, depth)
    for photo in re.findall(r'{"photo": "(\[media-removed:[^"]+|[^"]*)"}', json.dumps(found)):
        assert photo.startswith("[media-removed:") or len(photo) < 81, "a photo was left"


PIECES = st.sampled_from(
    (
        *("\\", "\\/", "\\u002b", "\\u005c", "\\n", "\n", "\r\n\r\n", "%2F", "%2C", "=", ".", " "),
        *('"', ":", "//", "u00", "n", "A", "/9j/", "aB3", PHOTO[:300], PHOTO[100:170], TEMPLATE),
        *(TEMPLATE[:64], "base64,", ";base64,", "data:image/png,", "%3Csvg", "GIF89a", "\r\n--"),
        *(JPEG.hex()[:200], "-_"),
    )
)


@given(st.lists(PIECES, max_size=40))
@example([TEMPLATE, "\n", TEMPLATE[:64], "\n", TEMPLATE[:64], "\n", TEMPLATE[:64]])
@example([":", "//", "/9j/", PHOTO[:300], "/", '"', TEMPLATE])
def test_of_any_bytes_what_is_not_replaced_stays_and_a_second_time_changes_nothing(
    pieces: list[str],
) -> None:
    body = "".join(pieces).encode()
    changed = replace_media(body)
    if changed is None:
        return
    assert replace_media(changed) is None
    place = 0
    rest = MARKER.split(changed)  # what stays, a length, a digest, what stays, …
    for stays, length, digest in zip(rest[::3], rest[1::3], rest[2::3], strict=False):
        assert body[place : place + len(stays)] == stays
        place += len(stays)
        taken = body[place : place + int(length)]
        assert hashlib.sha256(taken).hexdigest().encode() == digest
        place += int(length)
    assert body[place:] == rest[-1]


@given(st.lists(PIECES, max_size=30))
@example([TEMPLATE, "\\" * 71, "/", TEMPLATE])  # more of them than are looked at
@example([TEMPLATE, "\\u005c" * 71, "\\/", TEMPLATE])
def test_a_text_of_json_stays_one(pieces: list[str]) -> None:
    body = b'{"x": "%b"}' % "".join(pieces).replace("\n", "").replace("\r", "").encode()
    try:
        json.loads(body)
    except ValueError:
        return
    json.loads(replace_media(body) or body)


HOSTILE = (
    *(b"\\", b"\\/", b"\\u005c", b"A\\n", b"a=", b"%2F", b"aB3" * 15 + b"=", b"data:image/a;"),
    *(b"a b ", b"aB3" * 200 + b".", b"aB3" * 13 + b"\n", b"http://", b'"' + b"aB3" * 20),
    *(b"\r\n\r\nGIF89a", b"aB3" * 20 + b"\\" * 70, b"aB3" * 20 + b"\\u005c" * 70),
)


@pytest.mark.large
@for_each("piece", HOSTILE)
def test_no_body_takes_the_square_of_its_length(piece: bytes) -> None:
    """A quarter of a megabyte would take minutes so, and the test has one."""
    replace_media(piece * ((1 << 18) // len(piece)))


MANY = (b"A\\/", b"A\\\\/", b"%2F", b"\\u002f", b"aB3" * 20 + b"\\n", b"aB3" * 20 + b"\\u005c" * 70)


@pytest.mark.large
@for_each("piece", MANY)
def test_no_body_takes_memory_for_each_of_its_escapes(piece: bytes) -> None:
    body = piece * ((1 << 17) // len(piece))
    tracemalloc.start()
    replace_media(body)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 16 * len(body)
