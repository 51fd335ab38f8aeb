"""What it means for `premblyd send` how a webhook was answered, or that it was not."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from premblyd.config.secrets import Secret
    from premblyd.presence import Presence

TIMEOUT_S = 30.0
# {reload} and {look}: what `Target.how` says.
_STATUSES = {
    404: "No endpoint has this path. After a change of `path`: {reload}."
    " Behind a proxy: does it pass the path on unchanged?",
    405: "This URL takes no POST, so it is not an endpoint's.",
    413: "The body is larger than `max_body`, or than the limit of a proxy in front.",
    502: "A proxy in front does not reach the daemon: {look}.",
    503: "Without Retry-After this comes of a proxy in front: does the daemon run behind it?",
    504: "A proxy in front got no answer of the daemon: {look}.",
}
_TRY_AGAIN = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: an answer, or (`status` 0) the reason why there is none."""

    status: int
    text: str
    retry_after: str | None = None

    def __str__(self) -> str:
        return f"{self.status} {self.text}" if self.status else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a webhook was sent. `daemon` is the running daemon, if there is one and the webhook was
    sent to it and not to a --url."""

    where: str
    unix_path: str
    is_configured: bool  # where the configuration says, and not at a --url
    key_place: str
    key: "Secret"
    daemon: "Presence | None"
    is_managed: bool  # by systemd

    def how(self) -> dict[str, str]:
        """Return what to do for {start}, {reload}, {restart} and {look} in a text."""
        if self.is_managed:
            return {
                "start": "`sudo systemctl start premblyd.socket premblyd`",
                "reload": "`sudo systemctl reload premblyd`",
                "restart": "`sudo systemctl restart premblyd`",
                "look": "`sudo journalctl -u premblyd -n 20` may tell why",
            }
        return {
            "start": "start it with `premblyd serve`",
            "reload": "send the daemon SIGHUP",
            "restart": "start the daemon again",
            "look": "does it run? Its log may tell why",
        }


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reply means, for people, and whether sending the same again may work later."""

    words: str
    may_work_later: bool


# Why there is no answer, as the http client says it.
_REFUSED = "connection refused or unreachable"
_NO_ANSWER = {
    "the TLS certificate is not trusted": Meaning(
        "The certificate is not trusted here, so nothing was sent. Is it expired, of another name,"
        " or of a private authority? Prembly's side would hardly trust it either.",
        may_work_later=False,
    ),
    "the TLS handshake failed": Meaning("Is https right for this port?", may_work_later=False),
    "the request can't be sent as configured": Meaning(
        "Is the URL right, and the token plain text?", may_work_later=False
    ),
    "the host name can't be resolved": Meaning(
        "Is the URL's host name right?", may_work_later=True
    ),
}
_NOT_IN_TIME = (
    f"Something took the connection and gave no answer within {TIMEOUT_S:g} s: {{look}}."
    " (With https: does the port speak TLS?)"
)
_UNKNOWN_REASON = Meaning(
    "No answer came. Is the URL right, and is it premblyd that listens there?", may_work_later=True
)


def meaning(reply: Reply, target: Target) -> Meaning | None:
    """Return what `reply` means; None for a 200."""
    if reply.status == 0:
        if reply.text == _REFUSED:
            return Meaning(_unreachable(target), may_work_later=True)
        if reply.text == "no answer in time":
            return Meaning(_NOT_IN_TIME.format(**target.how()), may_work_later=True)
        return _NO_ANSWER.get(reply.text, _UNKNOWN_REASON)
    if reply.status == 200:
        return None
    if reply.status == 401:
        return Meaning(_refused(target), may_work_later=False)
    if reply.status == 503 and reply.retry_after:
        return Meaning(
            "The daemon runs, and could not store it: the disk is full, the database is locked"
            " or can't be reached, or too much is in flight. Its log tells which. Try again in"
            f" {reply.retry_after} s.",
            may_work_later=True,
        )
    if 300 <= reply.status < 400:
        return Meaning(
            "This is a redirect, and it was not followed. Prembly follows it (but for workflow"
            " runs), takes any page that answers 200 for a delivery, and never sends that event"
            " again. Give Prembly the URL of the endpoint itself.",
            may_work_later=False,
        )
    unknown = "This is no answer of premblyd. Is the URL right?"
    words = _STATUSES.get(reply.status, unknown).format(**target.how())
    return Meaning(words, may_work_later=reply.status in _TRY_AGAIN)


def _unreachable(target: Target) -> str:
    if target.unix_path and not Path(target.unix_path).exists():
        return f"There is no socket {target.unix_path}. {_no_daemon(target)}"
    if target.unix_path and not os.access(target.unix_path, os.W_OK):
        return f"You may not connect to {target.unix_path}: use sudo."
    if not target.is_configured:
        return "Nothing listens there, or a firewall is in between."
    return _no_daemon(target)


def _no_daemon(target: Target) -> str:
    if target.daemon is not None:
        return (
            f"The running daemon (pid {target.daemon.pid}) listens on"
            f" {', '.join(target.daemon.listen)}, not on {target.where}:"
            " `premblyd check` tells more."
        )
    return f"No daemon listens on {target.where}: {target.how()['start']}."


def _refused(target: Target) -> str:
    from premblyd import presence

    if target.daemon is not None:
        if difference := presence.other_secret(target.daemon, target.key_place, target.key):
            return f"{difference[0].upper()}{difference[1:]}."
        return (
            "The running daemon has this key, so it is something else: `reason` in its log tells,"
            " such as an address outside `allow_ips`."
        )
    return (
        "The receiver has another key for this signature (or `allow_ips` leaves this address out;"
        f" its log tells). After a change of the key: {target.how()['restart']}."
    )
