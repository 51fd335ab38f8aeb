"""Reading and operating what is kept."""
