"""Personal data: how long it is kept, legal holds, erasure, export."""
