"""The console: private pages for operators, on a listener of their own."""
