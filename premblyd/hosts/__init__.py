"""Several daemons on one database: how they know of each other."""
