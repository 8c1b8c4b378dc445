"""Score a file, as a person does: a table is dropped, seen, sent; its answers and bad rows are read, and kept."""

import csv
import io
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import expect

from tests.service.server.web.pages.conftest import SCREEN_IDS, SCREENS, Open

HEADER = ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "note"]
GOOD = ["Dream", "44.1", "19.7", "196", "4400", "male", 'said "yes",\nthen no']
BAD = ["Dream", "long", "19.7", "196", "4400", "male", "b"]
ROWS = 3000


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a CSV of many rows, of which two are bad."""
    path = tmp_path / "birds.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(BAD if row in (6, 2500) else GOOD for row in range(ROWS))
    return path


@pytest.mark.parametrize(("size", "scheme"), SCREENS, ids=SCREEN_IDS)
def test_a_table_is_scored(visit: Open, penguins_url: str, table: Path, size: tuple[int, int], scheme: str) -> None:
    """Its beginning is seen, its bad rows are listed with their errors, and what is downloaded is the service's answer."""
    opened = visit(f"{penguins_url}/models/penguins/score", size, scheme)
    page = opened.page
    page.locator("input[type=file]").set_input_files(table)
    expect(page.get_by_text("All 6 features are there")).to_be_visible()
    expect(page.get_by_role("region", name="Beginning of the file")).to_contain_text("Dream")
    page.get_by_role("button", name="Score birds.csv").click()
    expect(page.get_by_text("2 of 3\u202f000 rows refused")).to_be_visible(timeout=60_000)
    bad = page.get_by_role("region", name="Rows that were refused")
    expect(bad).to_contain_text("2501")
    expect(bad).to_contain_text("feature 'bill_length_mm': expected a number, got a string")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download birds.scored.csv").click()
    kept = Path(download.value.path()).read_bytes()
    sent = httpx.post(
        f"{penguins_url}/predict?on_error=row&extra=ignore",
        content=table.read_bytes(),
        headers={"content-type": "text/csv"},
        timeout=60,
    )
    assert kept == sent.content
    assert len(list(csv.reader(io.StringIO(kept.decode())))) == ROWS + 1
    opened.check()


def test_parquet_in_and_json_lines_out(visit: Open, penguins_url: str, tmp_path: Path) -> None:
    """A Parquet file is sent as it is; answers in another format are shown as they come."""
    columns = {name: [GOOD[place]] * 50 for place, name in enumerate(HEADER[:-1])}
    numbers = {
        name: [float(cell) for cell in cells] for name, cells in columns.items() if name not in ("island", "sex")
    }
    path = tmp_path / "birds.parquet"
    pq.write_table(pa.table({**columns, **numbers}), path)
    opened = visit(f"{penguins_url}/models/penguins/versions/1/score")
    page = opened.page
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="JSON Lines").click()
    page.get_by_role("button", name="Score birds.parquet").click()
    expect(page.get_by_text("no row refused")).to_be_visible(timeout=90_000)
    expect(page.get_by_role("region", name="First answers")).to_contain_text("probabilities")
    expect(page.get_by_role("button", name="Download birds.scored.jsonl")).to_be_visible()
    opened.check()


def test_a_table_that_stops_says_why(visit: Open, penguins_url: str, table: Path) -> None:
    """With `stops the run`, the service's reason with its line is shown, and there is nothing to download."""
    opened = visit(f"{penguins_url}/models/penguins/score")
    page = opened.page
    page.locator("input[type=file]").set_input_files(table)
    page.get_by_role("button", name="stops the run").click()
    page.get_by_role("button", name="Score birds.csv").click()
    expect(page.get_by_role("alert")).to_contain_text("bill_length_mm")
    expect(page.get_by_role("button", name="Download")).to_have_count(0)


def test_what_does_not_fit_is_seen_before_it_is_sent(visit: Open, penguins_url: str, tmp_path: Path) -> None:
    """A missing column is named; a file of another kind is refused in the page; another file can be chosen."""
    opened = visit(f"{penguins_url}/models/penguins/score")
    page = opened.page
    book = tmp_path / "book.xlsx"
    book.write_bytes(b"PK\x03\x04")
    page.locator("input[type=file]").set_input_files(book)
    expect(page.get_by_role("alert")).to_contain_text("book.xlsx is not a table")
    short = tmp_path / "short.tsv"
    short.write_text("island\tsex\nDream\tmale\n")
    page.locator("input[type=file]").set_input_files(short)
    expect(page.get_by_role("alert")).to_contain_text("The file lacks the features bill_length_mm")
    page.get_by_role("button", name="Another file").click()
    expect(page.get_by_text("Drop a table here")).to_be_visible()
    opened.check()
