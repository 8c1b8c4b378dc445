"""Charts: each kind of value is drawn as what it is, and its labels can be read."""

import re

import numpy as np
import pytest

from batchproof.training.report.charts import category_points as levels
from batchproof.training.report.charts import svg as charts
from batchproof.training.report.charts.scale import day, percent
from batchproof.training.report.charts.svg import LEFT, RIGHT, Axes, Line

AXES = Axes("Along island", "told", "mean probability", "")
DAY_S = 86_400.0


def ticks(drawing: str, y: float) -> list[tuple[float, str]]:
    """Return place and text of the ticks at this height."""
    found = re.findall(rf'<text class="tick" x="([\d.]+)" y="{y}" text-anchor="middle">([^<]*)<', drawing)
    return [(float(x), text) for x, text in found]


def test_categories_are_points_not_a_line() -> None:
    """Between categories there is nothing: each answer is a sign of its class's shape, and no line joins them."""
    answers = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    drawing = levels.points(AXES, ("Biscoe", "Dream", "Torgersen"), answers, ("Adelie", "Gentoo"))

    assert "<polyline" not in drawing
    assert drawing.count(charts.SIGNS["a"]) == drawing.count(charts.SIGNS["b"]) == 3 + 1, "the legend has one more"
    assert [drawing.count(f">{label}<") for label in ("Biscoe", "Dream", "Torgersen")] == [1, 1, 1]


def test_one_answer_a_category_is_also_a_number() -> None:
    """Where there is one answer for each category it stands beside its point, and there is nothing to explain."""
    drawing = levels.points(AXES, ("D", "E"), np.array([[4877.0], [3040.0]]), ("price",))

    assert ">4877<" in drawing
    assert "legend" not in drawing


def test_epochs_are_whole() -> None:
    """An axis of whole numbers has no tick between two of them."""
    line = Line("loss", (1, 2, 3), (0.3, 0.2, 0.1))

    def texts(*, is_whole: bool) -> list[str]:
        return [
            text for _, text in ticks(charts.lines(Axes("Loss", "", "epoch", "loss", is_whole=is_whole), [line]), 197)
        ]

    assert texts(is_whole=True) == ["1", "2", "3"]
    assert "1.5" in texts(is_whole=False)


@pytest.mark.parametrize("days", [30, 365, 4_000, 20_000])
def test_dates_do_not_overlap(days: int) -> None:
    """Days stand on an axis of dates, each with room for its ten characters."""
    line = Line("price", (1.5e9, 1.5e9 + days * DAY_S), (0.0, 1.0))
    drawn = ticks(charts.lines(Axes("Along date", "", "date", "", ticks=3, text=day), [line]), 197)

    places = [place for place, _ in drawn]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", text) for _, text in drawn)
    assert 2 <= len(places) <= 4
    assert min(np.diff(places)) > 10 * charts.CHARACTER
    assert LEFT <= min(places) < max(places) <= RIGHT


def test_short_labels_leave_their_room_to_the_chart() -> None:
    """The points begin behind the longest label, and no label is longer than its room."""
    narrow = levels.points(AXES, ("D", "E"), np.array([[1.0], [2.0]]), ("price",))
    wide = levels.points(AXES, ("D", "a label that is far too long"), np.array([[1.0], [2.0]]), ("price",))

    first = [min(float(x) for x in re.findall(r"translate\(([\d.]+) ", drawing)) for drawing in (narrow, wide)]
    assert first[0] < 60
    assert first[1] > 110
    assert "a label that is far…<title>a label that is far too long</title>" in wide


def test_shares_are_written_with_a_space() -> None:
    """A share is written as the pages write it."""
    assert [percent(0.897), percent(0.5, 0)] == ["89.7 %", "50 %"]
