"""What pages, metrics and other features read the record by: beside the daemon's work, and how its
actions stand."""
