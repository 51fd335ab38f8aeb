"""A test of many rows fails for each that is wrong, and names it."""

import pytest

from tests.support.rows import for_each


@for_each(("left", "right"), [(1, 1), (2, 1), (3, 0)])
@for_each("factor", [1, 2])
def of_rows(left: int, right: int, *, factor: int) -> None:
    if right == 0:
        pytest.fail("as pytest.raises does")
    assert left * factor == right * factor


def test_each_row_that_is_wrong_is_named_with_what_is_wrong() -> None:
    with pytest.raises(BaseExceptionGroup, match="2 of 3 rows") as failed:
        of_rows()
    assert [failure.__notes__ for failure in failed.value.exceptions] == [
        ["with (2, 1)"],
        ["with (3, 0)"],
    ]
    (of_first, _) = failed.value.exceptions
    assert isinstance(of_first, BaseExceptionGroup)
    assert [failure.__notes__ for failure in of_first.exceptions] == [["with 1"], ["with 2"]]
