"""Numbers that decide quality: one table in the code, one in the docs, equal."""

import ast
import re
from pathlib import Path

import pytest

from skae._runtime import tuning

PAGE = Path(__file__).parents[2] / "docs" / "defaults.md"
NUMBERS = {name: value for name, value in vars(tuning).items() if name.isupper()}


@pytest.fixture(scope="module")
def rows():
    if not PAGE.exists():
        pytest.skip("the pages are not here")
    text = PAGE.read_text(encoding="utf-8").split("## Numbers inside")[1]
    return re.findall(r"^\| `([A-Z_]+)` \| `(.+?)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)


def test_every_number_has_its_row_in_the_docs(rows):
    assert {name: ast.literal_eval(value) for name, value, *_ in rows} == NUMBERS


def test_every_row_says_what_the_number_decides_and_was_chosen_by(rows):
    assert all(len(decides) > 5 and len(chosen) > 5 for *_, decides, chosen in rows)


def test_links_of_the_rows_lead_somewhere(rows):
    for *_, chosen in rows:
        for page, anchor in re.findall(r"\]\(([a-z_]*\.?m?d?)#([a-z-]+)\)", chosen):
            text = (PAGE.parent / (page or PAGE.name)).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            slugs = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page}#{anchor}"
