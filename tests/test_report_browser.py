"""The report in a real browser: what is read, by eye, keyboard and printer, and the page of a run that goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from conftest import reported_content

import popnet
from popnet.config import from_mapping
from popnet.engine import journal
from popnet.engine.progress import Silent
from popnet.report.document import build
from popnet.report.html import render_html
from popnet.report.watch import watch

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")

BEHIND = """(one) => {
    while (getComputedStyle(one).backgroundColor.startsWith("rgba(0, 0, 0, 0")) one = one.parentElement;
    return getComputedStyle(one).backgroundColor;
}"""
STOPS = "[...document.querySelectorAll(`a[href], [tabindex='0']`)]"
FOCUSED = "(document.activeElement.getAttribute('href') || document.activeElement.className)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install popnet[dev]")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        yield launched
        launched.close()


class Reader:
    """A page in the browser, with what it wrote to the console and what it asked for. Its clock ticks by hand."""

    def __init__(self, browser: Any, file: Path, width: int = 1440, scheme: str = "light") -> None:
        self.view = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        self.view.add_init_script("window.setInterval = (tick, wait) => Object.assign(window, { tick, wait })")
        self.said: list[str] = []
        self.requests: set[str] = set()
        self.view.on("console", lambda message: self.said.append(message.text))
        self.view.on("pageerror", lambda error: self.said.append(str(error)))
        self.view.on("request", lambda request: self.requests.add(request.url))
        self.address = file.as_uri()
        self.view.goto(self.address)

    def texts(self, selector: str) -> list[str]:
        return list(self.view.eval_on_selector_all(selector, "all => all.map(one => one.innerText)"))

    def check(self) -> None:
        """Nothing is wrong, nothing is fetched, and nothing has to be scrolled sideways but what has its own box."""
        assert self.said == []
        assert self.requests == {self.address}
        assert self.view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        over = self.view.evaluate(
            """() => [...document.querySelectorAll("main *")].filter((one) => !one.closest(".scroll, svg")
                && one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert over == []

    def check_contrast(self, scheme: str) -> None:
        """Every text stands out from what is behind it by at least 4.5 to 1, and the page has the scheme's colours."""
        assert (luminance(self.view.evaluate(f"({BEHIND})(document.body)")) > 0.5) == (scheme == "light")
        pairs = self.view.evaluate(
            f"""() => {{
                const said = (one) => [...one.childNodes].some((node) => node.nodeType == 3 && node.textContent.trim());
                const ink = (one) => getComputedStyle(one)[one.closest("svg") ? "fill" : "color"];
                const seen = (one) => one.checkVisibility() && said(one);
                const all = [...document.querySelectorAll("body *")].filter(seen);
                return [...new Set(all.map((one) => ink(one) + "|" + ({BEHIND})(one)))];
            }}"""
        )
        assert len(pairs) > 3
        for pair in pairs:
            lighter, darker = sorted(map(luminance, pair.split("|")), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (scheme, pair)


def luminance(colour: str) -> float:
    parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(scope="module")
def built(reported):
    return build([reported])[0]


@pytest.fixture(scope="module")
def file(built, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(built), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_every_table_and_figure_is_there_and_legible(built, file, browser, width, scheme):
    reader = Reader(browser, file, width, scheme)
    reader.check()
    tables = [table.caption for section in built.sections for table in section.tables]
    assert [caption for caption in reader.texts("caption") if caption in tables] == tables
    figures = [figure for section in built.sections for figure in section.figures]
    assert reader.texts("figure h3") == [figure.title for figure in figures]
    sizes = reader.view.eval_on_selector_all(
        "figure svg[role=img]", "all => all.map(one => [one.clientWidth, one.clientHeight])"
    )
    assert len(sizes) == sum(len(figure.panels) for figure in figures)
    assert all(wide > 100 and high > 60 for wide, high in sizes)
    reader.check_contrast(scheme)
    reader.view.close()


def test_by_keyboard(file, browser):
    reader = Reader(browser, file)
    view = reader.view
    view.keyboard.press("Tab")
    assert view.evaluate(FOCUSED) == "#main", "first comes the way past the contents"
    assert view.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    stops = view.evaluate(f"{STOPS}.map((one) => one.getAttribute('href') || one.className)")
    for stop in stops[1:]:
        view.keyboard.press("Tab")
        assert view.evaluate(FOCUSED) == stop, "in the order of the page"
        assert view.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", f"{stop} shows it"
    view.evaluate("scrollTo(0, 0)")
    view.locator(".skip").focus()
    view.keyboard.press("Enter")
    view.keyboard.press("Tab")
    assert view.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert view.evaluate("document.querySelector('nav').contains(document.activeElement)") is False
    view.close()


def test_printed(file, browser, tmp_path):
    reader = Reader(browser, file, scheme="dark")
    reader.view.emulate_media(media="print")
    for gone in ("nav", ".skip"):
        assert reader.view.evaluate(f"getComputedStyle(document.querySelector('{gone}')).display") == "none"
    assert luminance(reader.view.evaluate("getComputedStyle(document.body).backgroundColor")) > 0.9, "dark ink is saved"
    reader.view.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 10_000
    reader.view.close()


class Held(Silent):
    """Lets a run go on until a few members are done and some have failed, then holds it until it may go on."""

    def __init__(self, done: int) -> None:
        self._wanted = done
        self._done = self._failed = 0
        self.reached, self.go_on = Event(), Event()

    def member(self, failed: bool = False) -> None:
        self._done += not failed
        self._failed += failed

    def running(self, members) -> None:
        if self._done >= self._wanted and self._failed and members and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(120)


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[tuple[Path, Held, Thread]]:
    """The page of a run that goes on, for as long as a test likes: it is held when some of its members have failed."""
    folder = tmp_path_factory.mktemp("watched")
    page, held = folder / "live.html", Held(9)
    arguments = {"workers": 2, "reporter": held, "order": lambda all: sorted(all, key=lambda m: -m.recipe.optimizer.lr)}
    run = Thread(target=popnet.run, args=(from_mapping(reported_content()), folder / "store"), kwargs=arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_SECONDS_BETWEEN_WRITES", 0.0)
        run.start()
        assert held.reached.wait(120)
    watcher = Thread(target=watch, args=([folder / "store"], page), kwargs={"interval": 0.5})
    watcher.start()
    while not page.exists():
        watcher.join(0.05)
    yield page, held, watcher
    held.go_on.set()
    run.join()
    watcher.join()


def tick(view: Any) -> None:
    """The time has come to load the page again; wait until that has happened."""
    view.evaluate("() => { window.before = true; setTimeout(tick) }")
    view.wait_for_function("window.before === undefined && document.readyState === 'complete'")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_while_a_run_goes_on(watched, browser, width, scheme):
    page, _, _ = watched
    reader = Reader(browser, page, width, scheme)
    view = reader.view
    (title,) = reader.texts(".block h3")
    assert re.fullmatch(r"tiny: \d+ of \d+ members done, \d failed", title)
    assert re.match(
        r"\d+ done, \d+ in training, \d failed, \d+ to come$", view.locator(".bar").get_attribute("aria-label")
    )
    assert any(re.fullmatch(r"[0-9a-f]{24}: epoch \d of 4", line) for line in reader.texts(".running li"))
    assert any("(Broken): " in line for line in reader.texts(".failures li"))
    assert {"Determinism", "Broken"} <= set(reader.texts(".block tbody th"))
    assert "Measured" in reader.texts("caption"), "the report as far as it is"
    reader.check()
    reader.check_contrast(scheme)
    view.close()


def test_reloading_leaves_the_reader_where_they_are(watched, browser):
    page, _, _ = watched
    reader = Reader(browser, page, 390)
    view = reader.view
    assert view.evaluate("wait") == 500
    view.locator("a[href='#methods']").focus()
    view.evaluate("() => { scrollTo(0, 700); document.querySelector('.scroll').scrollLeft = 30 }")
    tick(view)
    assert view.evaluate("scrollY") == 700
    assert view.evaluate("document.querySelector('.scroll').scrollLeft") == 30
    assert view.evaluate(FOCUSED) == "#methods"
    view.locator("#pause").press("Enter")
    assert view.locator("#pause").inner_text() == "Resume updates"
    view.evaluate("() => { window.before = true; tick() }")
    assert view.evaluate("window.before"), "paused"
    view.reload()
    assert view.locator("#pause").inner_text() == "Resume updates", "and it stays so"
    view.locator("#pause").press("Enter")
    tick(view)
    assert view.locator("#pause").inner_text() == "Pause updates"
    assert reader.said == []
    view.close()


def test_when_the_run_has_ended(watched, browser):
    page, held, watcher = watched
    reader = Reader(browser, page)
    held.go_on.set()
    watcher.join()
    tick(reader.view)
    assert reader.view.locator("script").count() == 0
    assert "The run is over." in reader.texts(".block p")
    reader.check()
    reader.view.close()
