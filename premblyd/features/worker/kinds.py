"""The kind of hook that stays running."""

from premblyd.config.hooks import WorkerHook
from premblyd.features.worker.worker import WorkerRunner

KINDS = ((WorkerHook, WorkerRunner),)
