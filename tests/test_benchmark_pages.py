"""The published benchmarks are the measured ones, and the capacity model agrees with them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import capacity, pages
from benchmarks.sections import SECTIONS
from tests.onetrip.environment import PROJECT

DOCUMENTS = pages.documents(pages.FOLDER)
PAGES = pages.rendered(pages.FOLDER)
README = (PROJECT / "README.md").read_text()
LIGHT_AND_DARK = re.compile(r"prefers-color-scheme: dark")


def test_everything_is_measured() -> None:
    """There is a JSON file of each benchmark, which says under what it was taken."""
    assert DOCUMENTS.keys() == SECTIONS.keys()
    for document in DOCUMENTS.values():
        assert document["conditions"].keys() >= {"seed", "processors", "python", "load_average_before"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_page_and_picture_is_that_of_its_numbers(path: Path) -> None:
    """Each is written anew from the JSON files, and comes out as it is: nothing is typed by hand."""
    assert path.read_text() == PAGES[path], "run `make bench ARGS=--draw`"


def test_no_picture_is_left_over() -> None:
    """Every picture in the folder belongs to a JSON file beside it."""
    assert {path.stem for path in pages.FOLDER.glob("*.svg")} == DOCUMENTS.keys()


def test_another_number_makes_another_page(tmp_path: Path) -> None:
    """The comparison above can fail: one round trip more in the JSON changes the table and the picture."""
    shutil.copy(pages.FOLDER / "round_trips.json", tmp_path)
    before = pages.rendered(tmp_path, with_documents=False)
    document = json.loads((tmp_path / "round_trips.json").read_text())
    document["flights"]["direct"]["this project"]["read one row"] += 1
    (tmp_path / "round_trips.json").write_text(json.dumps(document))
    after = pages.rendered(tmp_path, with_documents=False)
    assert all(before[path] != after[path] for path in before)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pictures_are_whole_in_light_and_in_dark(name: str) -> None:
    """Each is well-formed, has both schemes within itself, and draws nothing beyond its edge."""
    text = (pages.FOLDER / f"{name}.svg").read_text()
    root = ET.fromstring(text)  # noqa: S314  (our own)
    assert LIGHT_AND_DARK.search(text)
    width = float(root.attrib["width"])
    bars = [each.attrib for each in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(bars) > 3
    assert all(float(bar.get("x", 0)) + float(bar["width"]) <= width for bar in bars)


def test_our_round_trips_are_those_of_a_driver_by_hand() -> None:
    """Of what is counted, only the ORM's own add takes a round trip more than psycopg does by hand."""
    flights: dict[str, Any] = DOCUMENTS["round_trips"]["flights"]["direct"]
    ours, raw = flights["this project"], flights["psycopg by hand"]
    warm = [case for case in ours if "request" not in case]
    assert {case: ours[case] - raw[case] for case in warm if ours[case] != raw[case]} == {
        "ORM: add, commit, return": 1
    }


def test_the_readme_claims_what_was_measured() -> None:
    """Its first numbers are those of the table below them."""
    largest, runs = list(DOCUMENTS["exhaustion"]["instances"].items())[-1]
    reads = {name: of["read one row"] for name, of in DOCUMENTS["round_trips"]["flights"]["direct"].items()}
    assert (runs["this project"]["failed"], f"{int(largest):,} instances share" in README) == (0, True)
    assert (reads["this project"], reads["create_engine(url)"]) == (1, 3)
    assert "a read is one round trip, where `create_engine(url)` takes three" in README


RUNS = capacity.checked(DOCUMENTS["exhaustion"])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['instances']} {run['design']}")
def test_the_capacity_model_holds(run: dict[str, Any]) -> None:
    """As many requests fail as it says, and no fewer connections were seen at most than it says were busy."""
    assert run["failed"] == pytest.approx(run["failed_expected"], abs=0.1)
    if run["busy_expected"] is not None:
        assert run["busy_expected"] <= run["connections"] <= DOCUMENTS["exhaustion"]["pooler_connections"]
