"""The API page in a browser: what its script makes of the service's own description."""

import html
import re
from pathlib import Path

from tests.live import live
from tests.programs import Browser


def test_the_page_reads_as_prose(browser: Browser, penguins_bundle: Path) -> None:
    """Every field of a body has its meaning beside it, words of code are set as code, examples hold real categories."""
    with live(penguins_bundle.parents[1]) as server:
        page = browser.dump_dom(f"{server.url}/docs", "--virtual-time-budget=5000")

    body = page[page.index("<h3>Body</h3>") : page.index("<h3>A row</h3>")]
    rows = re.findall(r"<tr><td><code>(\w+)</code></td><td>(.*?)</td><td><span>(.*?)</span></td></tr>", body)
    assert {"rows", "columns", "on_error"} <= {name for name, _, _ in rows}
    assert [name for name, _, meaning in rows if not meaning] == []
    assert "<code>columns</code>" in body[body.index("rows") :]
    assert "`" not in html.unescape(page)
