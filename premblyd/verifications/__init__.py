"""What is known of each verification, with the statements: its names, what stored events say of it,
what was asked of Prembly, and what is awaited."""
