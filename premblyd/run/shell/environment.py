"""The argument list and the environment of a shell or command hook."""

from collections.abc import Mapping

from premblyd.config.hooks import CommandHook, ProcessHook, ShellHook
from premblyd.queue.jobs import Job

MAX_VALUE_BYTES = 4 << 10
INHERITED = ("PATH", "HOME", "LANG", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_line(hook: ShellHook | CommandHook) -> list[str]:
    """Return the hook's argument list: nothing of the event is in it."""
    return ["/bin/sh", "-c", hook.shell] if isinstance(hook, ShellHook) else list(hook.command)


def environment(hook: ProcessHook, job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the hook's whole environment: a few of the daemon's variables, the event's identity
    and the hook's own. Names are never taken from the event (httpoxy)."""
    about = _identity(job) if job.variables is None else job.variables
    return {
        "PATH": DEFAULT_PATH,
        **{name: environ[name] for name in INHERITED if name in environ},
        **{name: _text(value) for name, value in about.items()},
        **{name: secret.reveal() for name, secret in hook.env.items()},
    }


def _identity(job: Job) -> dict[str, object]:
    verdict = job.event.verdict
    return {
        "PREMBLY_EVENT": job.event.id,
        "PREMBLY_EVENT_KEY": job.event.key,
        "PREMBLY_DELIVERY": job.delivery_id,
        "PREMBLY_ONCE_KEY": job.once_key,
        "PREMBLY_ATTEMPT": job.attempt,
        "PREMBLY_WORKER": job.worker,
        "PREMBLY_ENDPOINT": job.event.endpoint,
        "PREMBLY_KIND": verdict.kind,
        "PREMBLY_TYPE": verdict.type,
        "PREMBLY_RESPONSE_CODE": verdict.response_code,
        "PREMBLY_STATUS": verdict.status,
        "PREMBLY_OUTCOME": verdict.outcome,
        "PREMBLY_REFERENCE": verdict.reference,
        "PREMBLY_USER_REF": verdict.user_ref,
        "PREMBLY_FACE_MATCH": verdict.face_match,
        "PREMBLY_FACE_CONFIDENCE": verdict.face_confidence,
        "PREMBLY_RISK_LEVEL": verdict.risk_level,
        "PREMBLY_RISK_SCORE": verdict.risk_score,
        "PREMBLY_DOUBT": verdict.doubt,
        "PREMBLY_CONFIRMED": True if job.is_confirmed else None,
        "PREMBLY_CONFIRMED_FIELDS": ",".join(job.confirmed_fields),
    }


def _text(value: object) -> str:
    """Return a value as a variable holds it; empty when it has a NUL or is over 4 KiB."""
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return "" if "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text
