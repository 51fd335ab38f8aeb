"""The response codes that Prembly documents (docs.prembly.com, "Response codes")."""

MEANINGS = {
    "00": "processed",
    "01": "not found",
    "02": "service unavailable",
    "03": "wallet is empty",
    "07": "BVN blocked",
}
