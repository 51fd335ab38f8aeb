"""The configuration: its models, and reading a file with every problem at once."""
