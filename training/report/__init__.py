"""report.html, measured from the graph that will serve: one file, without scripts or links.

facts (numbers only) -> sections (their text and charts) -> page. `charts` draws SVG on the axes of `scale`. The page
shows counts, means and quantiles over many rows, and no row of the table.
"""

from batchproof.training.report.facts import Facts, collect
from batchproof.training.report.page import render

__all__ = ["Facts", "collect", "render"]
