"""The report in a real browser, without network: it draws, fits, and says nothing in the console."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

OVERFLOW = "() => document.scrollingElement.scrollWidth - window.innerWidth"
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"
CHARTS = """() => Array.from(
    document.querySelectorAll('[data-chart]'), e => e.querySelectorAll('svg, canvas').length
)"""
WIDTHS = """() => Array.from(
    document.querySelectorAll('.chart'), e => [e.querySelector('svg').clientWidth, e.clientWidth]
)"""


@dataclass
class Visit:
    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(chromium, report):
    contexts = []

    def open_page(width=1200, **settings):
        context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True, **settings)
        contexts.append(context)
        seen = Visit(context.new_page())
        seen.page.on("console", lambda m: seen.complaints.append(f"{m.type}: {m.text}"))
        seen.page.on("pageerror", lambda e: seen.complaints.append(str(e)))
        seen.page.on("dialog", lambda d: (seen.complaints.append(d.message), d.dismiss()))
        seen.page.on("request", lambda r: seen.requests.append(r.url))
        seen.page.goto(report.as_uri())
        if settings.get("java_script_enabled", True):
            seen.page.wait_for_selector("html[data-charts=drawn]", timeout=120_000)
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1200, "light"),
        (400, "dark"),
        pytest.param(1200, "dark", marks=pytest.mark.slow),
        pytest.param(400, "light", marks=pytest.mark.slow),
    ],
)
def test_the_page_draws_fits_and_is_quiet(visit, report, width, scheme):
    seen = visit(width, color_scheme=scheme)
    assert seen.complaints == []
    assert [u for u in seen.requests if not u.startswith("data:")] == [report.as_uri()]
    drawn = seen.page.evaluate(CHARTS)
    assert len(drawn) == 1 + 2 + 4 * 3 + 4 * 3
    assert set(drawn) == {1}
    assert seen.page.evaluate(OVERFLOW) <= 0


def test_charts_are_as_wide_as_their_place(visit):
    page = visit(400).page
    assert all(250 < drawn <= place for drawn, place in page.evaluate(WIDTHS))


def test_dark_and_light_swap_ground_and_ink(visit):
    page = visit(color_scheme="dark").page
    label = "() => getComputedStyle(document.querySelector('.chart svg text')).fill"
    dark = page.evaluate(BACKGROUND), page.evaluate(label)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(BACKGROUND), page.evaluate(label)
    assert dark == ("rgb(21, 24, 29)", "rgb(228, 231, 235)")
    assert light == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")


def test_paper_shows_every_table_and_closes_them_again(visit):
    page = visit().page
    count = "() => document.querySelectorAll('details[open]').length"
    assert page.evaluate(count) == 0
    page.emulate_media(media="print")
    page.wait_for_function("() => document.querySelectorAll('details:not([open])').length === 0")
    assert page.locator("nav").is_hidden()
    assert page.locator(".chart svg").first.is_visible()
    assert page.locator("details table").last.is_visible()
    page.emulate_media(media="screen")
    page.wait_for_function("() => document.querySelectorAll('details[open]').length === 0")
    assert page.pdf()[:5] == b"%PDF-"


def test_the_page_is_complete_without_scripts(visit):
    seen = visit(400, java_script_enabled=False)
    told = seen.page.locator("header noscript")
    assert "Every chart's numbers are in the table below it" in told.inner_text()
    assert told.bounding_box()["height"] > 20
    seen.page.locator("figure summary").first.click()
    assert seen.page.locator("figure table").first.is_visible()
    assert [c for c in seen.complaints if "script" not in c.lower()] == []


def test_verdicts_are_seen_at_once_and_passed_checks_open_by_key(visit):
    page = visit(400).page
    verdicts = page.get_by_role("list", name="Verdict on each model").get_by_role("listitem")
    assert verdicts.count() == 4
    assert verdicts.first.bounding_box()["y"] < 200
    assert page.get_by_role("link", name="Remedies").is_visible()
    cell = page.get_by_role("row", name="check number 3").get_by_role("cell").first
    assert cell.inner_text() == "pass 0.4286"
    cell.locator("summary").focus()
    page.keyboard.press("Enter")
    assert "fool 0 of 128 samples" in cell.inner_text()


def test_tables_sort_by_the_number_in_a_column_and_back(visit):
    page = visit().page
    table = page.locator("table.sortable").first

    def shown():
        return [float(t.split()[0]) for t in table.locator("tbody td:nth-child(4)").all_inner_texts()]

    before = shown()
    assert before not in (sorted(before), sorted(before, reverse=True))
    head = table.get_by_role("button", name="robust, linf 0.1")
    head.focus()
    page.keyboard.press("Enter")
    assert shown() == sorted(before)
    assert table.locator("th[aria-sort=ascending]").inner_text().startswith("robust, linf 0.1")
    head.click()
    assert shown() == sorted(before, reverse=True)


def test_radii_sort_by_size_however_they_are_written(visit):
    page = visit().page
    table = page.get_by_role("region", name="Paired comparison").locator("table")
    table.get_by_role("button", name="linf radius").click()
    shown = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert shown == ["8/255"] * 3 + ["0.1"] * 3


def test_a_filter_leaves_the_rows_and_points_of_some_models(visit):
    seen = visit()
    page = seen.page
    names = page.locator("tr[id^=model-] th").all_inner_texts()
    chosen = names[1].split()[0]
    page.get_by_role("searchbox").fill(chosen)
    page.wait_for_function("() => document.querySelectorAll('#chart-ranking .mark-symbol path').length < 9")
    left = page.locator("tr[id^=model-]:visible th").all_inner_texts()
    assert left == [name for name in names if chosen in name] != names
    assert page.get_by_role("status").inner_text() == "1 of 4 models are shown."
    columns = page.locator("table.matrix thead th:visible")
    assert [c.split()[0] for c in columns.all_inner_texts()] == ["check", chosen]
    page.keyboard.press("Enter")
    page.get_by_role("searchbox").fill("")
    assert page.locator("tr[id^=model-]:visible").count() == len(names)
    assert seen.complaints == []


@pytest.mark.parametrize(("kind", "start"), [("CSV", b'"network"'), ("SVG", b"<svg"), ("PNG", b"\x89PNG")])
def test_a_chart_is_saved_as_a_file(visit, kind, start):
    seen = visit()
    figure = seen.page.locator("#chart-ranking")
    figure.locator("summary").click()
    with seen.page.expect_download() as download:
        figure.get_by_role("button", name=f"Save Accuracy of each network as {kind}").click()
    assert download.value.suggested_filename == f"ranking.{kind.lower()}"
    assert download.value.path().read_bytes().startswith(start)
    assert seen.complaints == []


def test_charts_models_and_claims_have_addresses(visit, report):
    page = visit().page
    targets = page.evaluate("() => Array.from(document.querySelectorAll('.anchor'), a => a.hash.slice(1))")
    assert targets
    assert all(page.locator(f"[id='{target}']").count() == 1 for target in targets)
    assert page.locator("tr[id^=claim-]").count() > 10


@pytest.mark.parametrize(
    ("width", "scheme"), [(400, "dark"), pytest.param(1200, "light", marks=pytest.mark.slow)]
)
def test_axe_finds_nothing_that_keeps_anybody_out(visit, width, scheme):
    page = visit(width, color_scheme=scheme, bypass_csp=True).page
    page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []


def test_keyboard_and_screen_readers_find_their_way(visit):
    page = visit().page
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    assert page.get_by_role("img", name="Accuracy against eps. At linf 0.1").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "skip"
    assert page.evaluate("() => new Set(Array.from(document.querySelectorAll('[id]'), e => e.id)).size") == (
        page.locator("[id]").count()
    )


def test_an_untrusted_name_is_text_in_table_and_chart(visit):
    page = visit().page
    name = "<img src=x onerror=alert(1)>"
    assert page.get_by_role("rowheader", name=name).count() > 0
    assert page.locator("svg text", has_text="<img src=x").count() > 0
    assert page.locator("img[onerror]").count() == 0
