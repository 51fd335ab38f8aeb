"""Numbers as people read them."""


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return `1 delivery` or `2,000 deliveries`; without `plural`, it is `singular` with an s."""
    return f"{number:,} {singular if number == 1 else plural or f'{singular}s'}"
