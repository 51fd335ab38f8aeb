"""Which delivery begins when: `order` (one after the other), `once` (one success for each)."""

TROUBLES = (("blocked", "deliveries wait for a dead one: order, with then: wait"),)
