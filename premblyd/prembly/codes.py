"""The response codes that Prembly documents (docs.prembly.com, "Response codes")."""

MEANINGS = {
    "00": "processed",
    "01": "not found",
    "02": "service unavailable",
    "03": "wallet is empty",
    "07": "BVN blocked",
}
# Letters that are typed for a digit.
_LOOKALIKES = str.maketrans("OoQIlZ", "000112")


def meant_by(code: str) -> str | None:
    """Return the documented code that somebody may have meant by `code`, which is none; None if
    there is no such."""
    close = code.translate(_LOOKALIKES).zfill(2)
    return close if close in MEANINGS and close != code else None
