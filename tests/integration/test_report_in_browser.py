"""The page of a report in a real browser: nothing is fetched, nothing overflows, no text of others becomes more than text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.cli.views.page.render import PAGE, render
from tests.support import pages
from tests.support.browser import CHROMIUM, open_tab
from tests.unit.cli.test_page import HOSTILE

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("SOULFORGE_REQUIRE_BROWSER"),
        reason="needs Chromium (apt-get install chromium)",
    ),
]

MEASURE = """(() => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll('body *')].filter(one => !one.parentElement.closest('.scroll'))
    .filter(one => one.getBoundingClientRect().right > root.clientWidth + 1 || one.getBoundingClientRect().left < -1);
  return {
    over: root.scrollWidth - root.clientWidth, wide: wide.map(one => one.outerHTML.slice(0, 90)),
    images: [...document.images].map(one => one.naturalWidth > 100), scripts: document.scripts.length,
    text: document.body.innerText,
  };
})()"""


@pytest.mark.parametrize("text", ["plain words", HOSTILE + "w" * 3000], ids=["plain", "hostile"])
async def test_a_page_fetches_nothing_and_overflows_on_no_screen(text: str, tmp_path: Path) -> None:
    path = tmp_path / PAGE
    path.write_text(render(pages.whole_page(text))[PAGE], encoding="utf-8")

    async with open_tab() as tab:
        for width in (1280, 360):
            await tab.open(path, width)
            found = await tab.evaluate(MEASURE)
            assert (found["over"], found["wide"]) == (0, []), width
            assert (found["images"], found["scripts"]) == ([True, True], 0)
            assert text[:60] in found["text"] and pages.GENERAL in found["text"]
        assert {url for url in tab.requests if not url.startswith("data:image/svg+xml")} == {path.as_uri()}
        assert tab.complaints == []
