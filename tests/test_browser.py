"""Both pages in a real browser: they open from disk, ask for nothing, and their hands work."""

import shutil

import pytest

from reports.compare.page import write_comparison
from reports.report import write_report
from tests.pages import write_run

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Paths of a report and of a comparison."""
    runs = tmp_path_factory.mktemp("runs")
    a, b = (
        write_run(runs / name / "version_0", name, seed, 0.3 + 0.2 * seed)
        for seed, name in enumerate(["SimCLR", "Classifier"])
    )
    return {"report": write_report(a, b), "comparison": write_comparison([a, b])}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(browser, pages):
    """Open a page; afterwards nothing may have been asked for, said on the console, or thrown."""
    messages, contexts = [], []

    def visit(name, **options):
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: request.url.startswith("data:") or messages.append(request.url))
        page.goto(pages[name].as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    allowed = {path.as_uri() for path in pages.values()}
    own_warning = "willReadFrequently"  # what Chromium says of how a test reads pixels
    assert [text for text in messages if text not in allowed and own_warning not in text] == []


def scroll_to(page, selector):
    """The element, scrolled to; charts are drawn when they come near."""
    element = page.locator(selector).first
    element.scroll_into_view_if_needed()
    page.wait_for_timeout(150)
    return element


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_on_any_screen(visit, name, size, scheme):
    page = visit(name, viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.evaluate("[...document.images].every((i) => i.alt && (i.hidden || i.loading || i.complete))")
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    scroll_to(page, "figure.chart")
    page.wait_for_selector("figure.chart canvas")


def test_curves_are_read_toggled_and_zoomed(visit):
    page = visit("report")
    figure = scroll_to(page, "figure.chart:has-text('Accuracy while training')")
    plot = figure.locator(".plot")
    plot.locator(".u-over").hover()
    assert figure.locator(".at").inner_text().startswith("epoch ")
    first = figure.locator(".pill").first
    assert float(first.locator("b").inner_text()) > 30
    others = page.locator("figure.chart:has-text('Effective rank') .at")
    assert others.inner_text() == figure.locator(".at").inner_text()  # one crosshair for all charts
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    plot.focus()
    page.keyboard.press("+")
    assert figure.locator(".back").is_visible()
    page.keyboard.press("Escape")
    assert not figure.locator(".back").is_visible()
    box = plot.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 60)
    page.mouse.up()
    assert figure.locator(".back").is_visible()
    plot.locator(".u-over").dblclick()
    assert not figure.locator(".back").is_visible()


def go_to_example(page, key):
    """The page, with the first map at the example that a key leads to."""
    scroll_to(page, "figure.map canvas").focus()
    page.keyboard.press(key)
    return page


def test_a_map_shows_an_example_and_goes_by_keys(visit):
    page = go_to_example(visit("report"), "ArrowRight")
    tip = page.locator("figure.map .tip")
    assert tip.is_visible() and "validation example" in tip.inner_text()
    assert "validation example" in page.locator("figure.map .reader").inner_text()
    assert page.evaluate("document.querySelector('.tip canvas').toDataURL().length") > 500  # its picture
    one = tip.inner_text()
    page.keyboard.press("ArrowUp")
    assert tip.inner_text() != one
    page.keyboard.press("Escape")
    assert not tip.is_visible()


INK = """() => {
  const canvas = document.querySelector("figure.map canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 3 && value).length;
}"""  # how much of the map is painted


def test_classes_of_a_map_are_toggled(visit):
    page = visit("report")
    scroll_to(page, "figure.map canvas")
    everything = page.evaluate(INK)
    pills = page.locator("figure.map [data-class]")
    pills.nth(0).click()
    without = page.evaluate(INK)
    assert 0.6 * everything < without < 0.9 * everything  # three of four
    pills.nth(1).click(modifiers=["Shift"])
    assert page.evaluate(INK) < 0.4 * everything
    assert [pills.nth(k).get_attribute("aria-pressed") for k in range(4)] == [
        "false",
        "true",
        "false",
        "false",
    ]
    pills.nth(1).click(modifiers=["Shift"])
    assert page.evaluate(INK) == everything
    page.locator("figure.map [data-do=wrong]").click()
    assert 0 < page.evaluate(INK) < 0.2 * everything
    page.locator("figure.map [data-do=images]").click()
    assert page.evaluate(INK) > 0.1 * everything


def test_one_epoch_for_the_page(visit):
    page = visit("report")
    slider = scroll_to(page, "figure.map .epoch input")
    before = page.evaluate("document.querySelector('figure.map canvas').toDataURL()")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(200)
    assert page.evaluate("document.querySelector('figure.map canvas').toDataURL()") != before
    outputs = page.locator(".epoch output")
    assert [outputs.nth(k).inner_text() for k in range(outputs.count())] == ["epoch 4"] * outputs.count()
    picture = page.locator("#filters img:not([hidden])")
    assert (
        picture.get_attribute("data-epoch") == "4"
        and "epoch=4" in page.locator("#filters figcaption").inner_text()
    )


def test_a_confusion_shows_its_examples(visit):
    page = visit("report")
    cell = scroll_to(page, "figure.confusion td[data-cell]")
    cell.click()
    panel = page.locator("figure.confusion .cell")
    assert "cat rightly recognized" in panel.inner_text() and panel.locator(".sprite").count() == 1
    page.keyboard.press("Tab")
    cell.focus()
    page.keyboard.press("ArrowRight")
    assert "cat taken for dog" in panel.inner_text()


def test_one_example_lights_up_in_all_maps(visit):
    page = go_to_example(visit("comparison"), "ArrowDown")
    tips = page.locator("figure.map .tip")
    last = [tips.nth(k).inner_text().splitlines()[-1] for k in range(2)]
    assert last[0] == last[1] and last[0].startswith("validation example")


def test_a_table_is_sorted_and_copied(visit):
    page = visit("comparison")
    button = scroll_to(page, "#numbers-table th button >> nth=1")
    names = page.locator("#numbers-table tbody th")
    button.click()
    down = names.all_inner_texts()
    button.click()
    assert names.all_inner_texts() == down[::-1]
    assert page.locator("#numbers-table th >> nth=1").get_attribute("aria-sort") == "ascending"
    copied = {}
    for kind in ("Markdown", "LaTeX", "CSV"):
        page.locator(f".copies button:has-text('{kind}')").click()
        copied[kind] = page.locator(".copies").get_attribute("data-copied")
    assert copied["Markdown"].splitlines()[1].startswith("| :--- | ---: |")
    assert "\\toprule" in copied["LaTeX"] and "Run & Probe, test & " in copied["LaTeX"]
    assert copied["CSV"].splitlines()[0].startswith('Run,"Probe, test"')
    assert all("SimCLR" in text and "60.0" in text for text in copied.values())


def test_print_keeps_pictures_and_drops_controls(visit):
    page = visit("report")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator(".pills").first.is_visible() and not page.locator("nav").is_visible()
    assert page.locator("figure.chart canvas").first.is_visible()
