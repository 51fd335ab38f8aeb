"""Secrets in a configuration are found with their places, for the warning that others can read
them."""

from pathlib import Path

from premblyd.config.load import parse_config
from premblyd.config.secrets import Secret, SecretPlaces
from premblyd.features.tryout.shown import secrets_in

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HTTP = (
    f"http: {{url: http://x, headers: {{Authorization: h}}, proxy: http://x:1, sign_with: {WHSEC}}}"
)
TEXT = f"""
database: sqlite:///p.db
endpoints:
  - {{name: p, path: /p, keys: {{live: hush-text}}}}
actions:
  - {{name: a, response_codes: [00], {HTTP}}}
  - {{name: b, response_codes: [00], shell: x, env: {{A: e}}}}
"""
ALERTS = f"alerts:\n  - {{name: page, on: [dead], {HTTP}}}\n"
OF_HTTP = ("url", "header Authorization", "sign_with", "proxy")


def found(text: str) -> dict[str, Secret]:
    folder = Path("/nowhere")
    return dict(secrets_in(parse_config(text, folder / "p.yaml", SecretPlaces(folder, {}))))


def test_every_secret_is_found_with_its_place() -> None:
    secrets = found(TEXT)
    of_action = (f"action a, {name}" for name in OF_HTTP)
    assert list(secrets) == ["endpoint p, key live", *of_action, "action b, env A"]
    assert secrets["action b, env A"].reveal() == "e"


def test_those_of_an_alert_too() -> None:
    assert {f"alert page, {name}" for name in OF_HTTP} <= found(TEXT + ALERTS).keys()
