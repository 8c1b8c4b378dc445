"""report.html: the page a person reads, measured from the graph that will serve. One file, without scripts or links.

facts (numbers only) -> sections (what is said of them) -> page. Charts are SVG drawn by charts, on axes by scale.
No row of the table is on the page: what is drawn are counts, means and quantiles over many rows.
"""

from batchproof.training.report.facts import Facts, collect
from batchproof.training.report.page import render

__all__ = ["Facts", "collect", "render"]
