"""The kind of hook that stays running."""

from premblyd.features.worker.settings import WorkerHook

KINDS = ((WorkerHook, "premblyd.features.worker.worker:WorkerRunner"),)
PREVIEWS = ((WorkerHook, "premblyd.features.worker.protocol:preview"),)
