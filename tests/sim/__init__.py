"""The simulator: the real daemon on a virtual clock, one thread, all of it chosen by a seed."""
