"""What all stand on: time, words, errors, JSON, privacy, the log, HTTP, files."""
