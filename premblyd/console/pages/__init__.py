"""The pages of the console, a module each: what is read, and what may be done there."""
