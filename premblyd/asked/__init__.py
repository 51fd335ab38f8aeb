"""What is known of the questions to Prembly: who is awaited, what was asked, and the names of a
verification."""
