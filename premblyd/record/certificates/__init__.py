"""Certificates of completeness: what Prembly's log and the record have of a day of UTC."""
