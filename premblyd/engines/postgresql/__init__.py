"""What is PostgreSQL's own: connecting, transactions, its words for failures."""
