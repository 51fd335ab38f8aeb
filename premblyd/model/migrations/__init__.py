"""The schema's history: one script a version, run in order by playhouse.migrations."""
