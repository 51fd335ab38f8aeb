"""The kind of hook that stays running."""

from premblyd.features.worker.settings import WorkerHook
from premblyd.features.worker.worker import WorkerRunner

KINDS = ((WorkerHook, WorkerRunner),)
