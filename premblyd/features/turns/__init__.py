"""Which delivery begins when: `order` (one after the other), `once` (one success for each)."""
