"""Reading and changing what is kept, for people and programs."""

# What needs an operator, as alerts may be `on` it.
TROUBLES = (
    ("database", "the database can't store webhooks"),
    ("disk", "the database's disk is nearly full: disk: 90%"),
    ("signature", "an endpoint's webhooks are signed in another form than it takes"),
    ("lacking", "hooks can't start, as the machine lacks files, processes or memory"),
    ("late", "deliveries are overdue"),
    ("failing", "an action keeps failing"),
    ("dead", "deliveries gave up"),
    ("rejections", "many requests were refused"),
)
