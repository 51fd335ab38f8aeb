"""Mutated bodies, read twice, in short; the long form is `python -m tests.faults.doubt`."""

from tests.faults.doubt import differences


def test_what_a_body_says_of_a_person_is_what_the_rules_say_plainly() -> None:
    found, problems = differences(500, seed=7)
    assert problems == []
    assert min(found[f"doubt {word}"] for word in ("status", "code", "face", "type", "key")) > 3
    assert found["outcome verified"] > 50
