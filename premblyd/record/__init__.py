"""Reading and changing what is kept, for people and programs."""
