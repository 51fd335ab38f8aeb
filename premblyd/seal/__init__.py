"""Which columns are sealed, by which keys, and whether a daemon may work with those it has."""
