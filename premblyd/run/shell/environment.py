"""The argument list and the environment of a shell or command hook."""

from collections.abc import Mapping

from premblyd.config.hooks import CommandHook, ProcessHook, ShellHook

MAX_VALUE_BYTES = 4 << 10
INHERITED = ("PATH", "HOME", "LANG", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_line(hook: ShellHook | CommandHook) -> list[str]:
    """Return the hook's argument list: nothing of the event is in it."""
    return ["/bin/sh", "-c", hook.shell] if isinstance(hook, ShellHook) else list(hook.command)


def environment(
    hook: ProcessHook, about: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the hook's whole environment: a few of the daemon's variables, what it is told
    `about` and its own. Names are never taken from the event (httpoxy)."""
    return {
        "PATH": DEFAULT_PATH,
        **{name: environ[name] for name in INHERITED if name in environ},
        **{name: _text(value) for name, value in about.items()},
        **{name: secret.reveal() for name, secret in hook.env.items()},
    }


def _text(value: object) -> str:
    """Return a value as a variable holds it; empty when it has a NUL or is over 4 KiB."""
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return "" if "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text
