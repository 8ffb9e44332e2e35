"""The page of idioms: it is written from the rows, and each row has its test."""

import pytest

from tests.idioms.outcomes import PAGE, ROWS, TESTS, Row, document


def test_the_page_is_what_the_rows_say() -> None:
    """`python -m tests.idioms.outcomes` was run since the rows changed."""
    assert PAGE.read_text() == document()


@pytest.mark.parametrize("row", ROWS, ids=[row.idiom for row in ROWS])
def test_an_outcome_has_its_test(row: Row) -> None:
    """The file is there, and the test in it."""
    path, _, name = row.test.partition("::")
    assert f"def {name or 'test_'}" in (TESTS / path).read_text()
