"""What is known about each verification, with the statements: its names, what stored events say,
what Prembly was asked, and what is awaited."""
