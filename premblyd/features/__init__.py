"""What premblyd can do besides its core: a feature is a folder here, and a line below with the
features that it needs. In the order in which they are asked."""

FEATURES: dict[str, tuple[str, ...]] = {
    "postgresql": (),
    "encryption": ("keeping", "backup"),
    "names": (),
    "keeping": ("names",),
    "reading": (),
    "pause": ("reading",),
    "worker": (),
    "turns": ("names",),
    "asking": ("turns", "names"),
    "statistics": ("reading",),
    "watch": ("reading",),
    "backup": ("keeping",),
    "console": ("reading",),
    "tryout": (),
}
