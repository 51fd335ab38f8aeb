"""Comparing the record with Prembly's log: finds missed webhooks, and which days are complete."""
