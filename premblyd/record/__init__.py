"""Reading and changing what is kept, for people and programs."""

# What needs an operator, as alerts may be `on` it.
TROUBLES = (
    ("database", "the database can't store webhooks"),
    ("disk", "the database's disk is nearly full: disk: 90%"),
    ("lacking", "hooks can't start, as the machine lacks files, processes or memory"),
    ("wallet", "your Prembly wallet is empty (code 03)"),
    ("late", "deliveries are overdue"),
    ("failing", "an action keeps failing"),
    ("dead", "deliveries gave up"),
    ("silent", "no event came for a duration: silent: 6h"),
    ("rejections", "many requests were refused"),
    ("new_code", "a response code that Prembly does not document came for the first time"),
)
