"""The page of kept and left-out parts in a browser, wide and as on a telephone, light and dark."""

import pytest

from revinst.corpus.build import build_texts
from revinst.corpus.sample import Sample
from revinst.corpus.settings import Reading
from tests.browser import open_chromium
from tests.corpus.made_clients import ME, make_mails

MARKUP = "<img src=x onerror=alert(1)> & " + "unbroken" * 40
BOX = "(element) => { const box = element.getBoundingClientRect(); return [box.left, box.right, box.top, box.bottom]; }"
CONTRAST = """(element) => {
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map((value) => value / 255)
      .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paint = (part) => getComputedStyle(part).backgroundColor;
  let behind = element;
  while (behind.parentElement && /, 0\\)$|transparent/.test(paint(behind))) behind = behind.parentElement;
  const [dark, bright] = [getComputedStyle(element).color, paint(behind)].map(light).sort((a, b) => a - b);
  return (bright + 0.05) / (dark + 0.05);
}"""  # of WCAG 2.1


@pytest.fixture(scope="module")
def texts_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    mails = [mail for _, mail, _, _ in make_mails()][::5]
    mails.append(mails[0].replace("\n\n", f"\n\n{MARKUP}\n\n", 1).replace("pt 0", "pt 99").replace("pt.0", "pt.99"))
    (folder / "a.mbox").write_text("".join(f"From - Mon Mar  2 10:00:00 2026\n{mail}\n" for mail in mails), "utf-8")
    assert len(build_texts(folder / "own", Reading(folder / "a.mbox", (ME,)), Sample(len(mails)))) == len(mails)
    return folder / "own.texts.html"


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as chromium:
        yield chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_kept_and_left_out_parts(browser, texts_page, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if "file:" not in request.url else None)
    page.goto(texts_page.as_uri())
    assert page.locator("article").count() == 41 and page.locator("article img").count() == 0
    assert page.get_by_text(MARKUP[:28]).count() == 1, "markup in a text stays text"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    both = page.locator("article:has(.kept):has(.left)").first
    kept, left = (both.locator(part).first.evaluate(BOX) for part in (".kept", ".left"))
    if width > 1000:
        assert kept[1] <= left[0] and both.locator(".head").first.is_visible()
    else:
        assert kept[0] == pytest.approx(left[0], abs=4) and (kept[3] <= left[2] or left[3] <= kept[2])
        assert not both.locator(".head").first.is_visible()
        marked = both.locator(".left").first.evaluate("(part) => getComputedStyle(part, '::before').content")
        assert "left out" in marked
    for part in (".kept", ".left", "header small", ".head"):
        assert both.locator(part).first.evaluate(CONTRAST) >= 4.5, part
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)") <= (
        scheme == "light"
    )
    paint = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paint.removeprefix("rgb(").split(",")[0]) > 128) == (scheme == "light")
    assert problems == []
    page.close()
