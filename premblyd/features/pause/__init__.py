"""Actions that an operator pauses and resumes."""
