"""The app's pages in a real browser, used as people use them. Needs Chromium (CHROMIUM=… says where) and playwright."""

import csv
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile

import pytest
from app_client import AppProcess, paint_pictures

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'pamela_hf[dev]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
HEADINGS = {
    "rate": "Rate", "taste": "My taste", "rank": "Rank", "prompt": "Prompt", "study": "Study", "you": "You"
}  # fmt: skip
PAGES = tuple(HEADINGS)
PATIENCE = 120_000  # ms that a page may take on a busy machine
AXE = "axe-core@4.10.3"  # Deque's rules for accessible pages, MPL-2.0; taken from the npm registry when the test runs


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return paint_pictures(tmp_path_factory.mktemp("pictures"), 60, 96)


@pytest.fixture(scope="module")
def arguments(pictures, reward_folder, tmp_path_factory):
    return ("--images", pictures, "--model", reward_folder, "--store", tmp_path_factory.mktemp("store") / "taste.db")


@pytest.fixture(scope="module")
def app(arguments):
    with AppProcess(*arguments) as started:
        started.wait_ready()
        yield started


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM:
        pytest.skip("needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(app, chromium):
    """Opens the app for a person in a window of their own; a request to another host or an error fails the test."""
    contexts, problems = [], []

    def opened(person: str | None = "ann", page: str = "rate", **options):
        context = options.pop("context", None) or chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        tab = context.new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: f"127.0.0.1:{app.port}" in request.url or problems.append(request.url))
        if person is not None:
            tab.goto(f"{app.url}/pages/icon.svg")
            tab.evaluate("name => localStorage.setItem('pamela.person', name)", person)
        tab.goto(f"{app.url}/#/{page}")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert not [problem for problem in problems if not problem.startswith(("blob:", "data:"))]


def stored(app, person: str) -> list[tuple[str, float]]:
    rows = csv.DictReader(io.StringIO(app.get("/api/export", person=person).decode()))
    return [(row["image"], float(row["score"])) for row in rows]


def shown(tab) -> str:
    return tab.locator(".canvas img").first.get_attribute("src")


def press(tab, key: str) -> None:
    """Answers with a key, and waits for another picture."""
    before = shown(tab)
    tab.keyboard.press(key)
    tab.wait_for_function("old => document.querySelector('.canvas img')?.getAttribute('src') !== old", arg=before)


def wait_saved(tab) -> None:
    tab.wait_for_function("() => !Object.keys(localStorage).some(key => key.startsWith('pamela.outbox/'))")


def is_open(tab, heading: str) -> None:
    tab.get_by_role("heading", name=heading, level=1).wait_for()


def test_a_whole_visit(app, visit, pictures, tmp_path):
    tab = visit(None)
    tab.get_by_label("A name").or_(tab.get_by_label("Somebody else")).fill("Visitor")
    tab.get_by_role("button", name="Begin").click()
    for number in range(20):
        tab.locator(".canvas img").first.wait_for()
        press(tab, str(1 + number % 5))
    wait_saved(tab)
    assert [score for _, score in stored(app, "Visitor")] == [1 + number % 5 for number in range(20)]

    press(tab, "z")  # the last picture comes back
    assert len(stored(app, "Visitor")) == 19
    press(tab, "4")
    wait_saved(tab)

    tab.get_by_role("link", name="My taste", exact=True).click()
    tab.get_by_text("How well it predicts you").wait_for()
    tab.get_by_text("You would like these most").wait_for()

    tab.get_by_role("link", name="Rank").click()
    tab.locator(".ranked li").first.wait_for()
    first = tab.locator(".ranked figcaption").first.inner_text()
    tab.get_by_label("Strength of my taste").fill("0")
    tab.wait_for_function("old => document.querySelector('.ranked figcaption').innerText !== old", arg=first)
    tab.get_by_role("button", name="My pictures").click()
    tab.locator("input[type=file]").first.set_input_files(sorted(pictures.glob("*.png"))[:5])
    tab.locator(".ranked li").nth(4).wait_for()
    with tab.expect_download() as download:
        tab.get_by_role("button", name="CSV").click()
    download.value.save_as(tmp_path / "ranking.csv")
    assert len((tmp_path / "ranking.csv").read_text().splitlines()) == 6

    tab.get_by_role("link", name="Prompt").click()
    tab.get_by_label("What should the picture show?").fill("a photo of a cat")
    tab.get_by_role("button", name="Find the words").click()
    tab.get_by_text("Before and after").wait_for(timeout=300_000)
    assert tab.get_by_text("Simulated pictures").is_visible()

    tab.get_by_role("link", name="You").click()
    with tab.expect_download() as download:
        tab.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "ratings.csv")
    assert len((tmp_path / "ratings.csv").read_text().splitlines()) == 21
    tab.get_by_role("button", name="Erase me").click()
    tab.get_by_role("dialog").get_by_role("button", name="Erase").click()
    tab.get_by_text("20 answers and 1 prompt run erased").wait_for()
    assert stored(app, "Visitor") == []


def test_keyboard_alone(app, visit):
    tab = visit(None)
    tab.get_by_role("dialog").wait_for()
    tab.keyboard.type("Keys")
    tab.keyboard.press("Enter")
    tab.locator(".canvas img").first.wait_for()
    for key in "5241":
        press(tab, key)

    def reach(name: str) -> None:
        for _ in range(40):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.textContent").strip() == name:
                return
        raise AssertionError(f"{name} cannot be reached with Tab")

    reach("Pairs")
    tab.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp"):
        press(tab, key)
    reach("Nine")
    tab.keyboard.press("Enter")
    tab.locator(".nine").wait_for()
    tab.keyboard.press("3")
    reach("I like 1 of 9")
    press(tab, "Enter")
    wait_saved(tab)
    taste = app.get("/api/taste", person="Keys")
    assert (taste["ratings"], taste["choices"], taste["likes"]) == (4, 3, 9)
    tab.keyboard.press("Shift+Tab")
    tab.evaluate("document.querySelector('.brand').focus()")
    reach("My taste")
    tab.keyboard.press("Enter")
    is_open(tab, "My taste")
    tab.wait_for_function("() => document.activeElement.tagName === 'H1'")  # what was opened has the focus


def test_on_a_phone_by_touch(app, visit):
    tab = visit("Thumb", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab.locator(".canvas img").first.wait_for()
    before = shown(tab)
    tab.get_by_role("button", name="4", exact=True).tap()
    tab.wait_for_function("old => document.querySelector('.canvas img')?.getAttribute('src') !== old", arg=before)
    box, before = tab.locator(".canvas").bounding_box(), shown(tab)
    touch = tab.context.new_cdp_session(tab)
    y = box["y"] + box["height"] / 2
    steps = [("touchStart", 195), *(("touchMove", x) for x in range(205, 350, 20)), ("touchEnd", None)]
    for kind, x in steps:
        points = [] if x is None else [{"x": x, "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    tab.wait_for_function("old => document.querySelector('.canvas img')?.getAttribute('src') !== old", arg=before)
    wait_saved(tab)
    assert [score for _, score in stored(app, "Thumb")] == [4, 5], "a swipe to the right is the highest rating"
    for page in PAGES:
        tab.goto(f"{app.url}/#/{page}")
        tab.wait_for_timeout(400)
        width = tab.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{page} is {width} px wide"
        small = tab.evaluate(
            """() => [...document.querySelectorAll('main button, main a.button, nav a')].filter(one => {
                const box = one.getBoundingClientRect(); return box.width && (box.height < 40 || box.width < 40);
            }).map(one => one.textContent)"""
        )
        assert not small, f"{page}: too small for a thumb: {small}"


@pytest.mark.parametrize("width", [1000, 768, 320])
def test_a_long_name_pushes_nothing_over_an_edge(app, visit, width):
    tab = visit("Wolfeschlegelsteinhausenbergerdorff_the_elder", viewport={"width": width, "height": 800})
    tab.locator(".canvas img").first.wait_for()
    for page in PAGES:
        tab.goto(f"{app.url}/#/{page}")
        tab.wait_for_timeout(400)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page
    edges = tab.evaluate(
        """() => [...document.querySelectorAll('.brand, .account > *')].flatMap(one => {
            const box = one.getBoundingClientRect(); return [box.left, box.right];
        })"""
    )
    assert edges == sorted(edges) and edges[-1] <= width, f"one over another at the top: {edges}"


def test_a_kind_with_a_long_name_stays_in_its_column(app, visit):
    tab = visit("Long", viewport={"width": 1200, "height": 800})
    tab.locator(".canvas img").first.wait_for()
    for key in "12345123":
        press(tab, key)
    wait_saved(tab)

    def named(route):
        answer = route.fetch()
        names = ("Mannerism_Late_Renaissance", "Ukiyo_e", "a" * 60)
        kind = {"field": "style", "more": 0.32, "doubt": 0.14, "pictures": 11, "examples": []}
        route.fulfill(response=answer, json={**answer.json(), "kinds": [{**kind, "name": name} for name in names]})

    tab.route("**/api/taste?*", named)
    tab.goto(f"{app.url}/#/taste")
    for width in (1200, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.locator(".kind").nth(2).wait_for()
        wide = tab.evaluate(
            """() => [...document.querySelectorAll('.kind')].filter(one => {
                const edge = one.getBoundingClientRect().right + 1;
                return [...one.querySelectorAll('*')].some(part => part.getBoundingClientRect().right > edge);
            }).map(one => one.textContent)"""
        )
        assert not wide, f"{width}: over the column's edge: {wide}"


def test_a_tab_closed_while_nothing_could_be_saved_loses_nothing(app, visit):
    tab = visit("Closed")
    tab.locator(".canvas img").first.wait_for()
    tab.route("**/api/ratings", lambda route: route.abort())
    for key in "135":
        press(tab, key)
    tab.get_by_text("not saved").first.wait_for()
    assert stored(app, "Closed") == [] and "Saved" not in tab.locator(".saved").inner_text()
    tab.close()
    again = visit("Closed", context=tab.context)
    wait_saved(again)
    assert [score for _, score in stored(app, "Closed")] == [1, 3, 5]


def test_the_server_killed_and_started_again(arguments, app, visit):
    tab = visit("Killed")
    tab.locator(".canvas img").first.wait_for()
    for key in "12":
        press(tab, key)
    wait_saved(tab)
    app.kill()
    for key in "345":
        press(tab, key)  # the next pictures are loaded already
    tab.get_by_text("not saved").first.wait_for()
    started = AppProcess(*arguments, port=app.port)
    app.process, app.log = started.process, started.log  # the fixture ends this one
    app.wait_ready()
    wait_saved(tab)
    tab.wait_for_function("() => document.querySelector('.saved').textContent === 'Saved'")
    assert [score for _, score in stored(app, "Killed")] == [1, 2, 3, 4, 5]


def test_figures_have_a_minus_but_no_minus_nought(app, visit):
    written = "import('/pages/dom.js').then((dom) => [-0.001, -0.01, 0.3].map((value) => dom.number(value)))"
    assert visit("ann").evaluate(written) == ["0.00", "−0.01", "0.30"]


def test_two_tabs_of_one_person(app, visit):
    first = visit("Twice")
    second = visit("Twice", context=first.context)
    for tab in (first, second):
        tab.locator(".canvas img").first.wait_for()
    for number in range(6):
        press((first, second)[number % 2], "3")
    for tab in (first, second):
        wait_saved(tab)
    assert len(stored(app, "Twice")) == 6


@pytest.mark.parametrize("name", ["عائشة الزهراء", "🦊🌸", "<img src=x onerror=alert(1)>"])
def test_names_of_every_kind(app, visit, name):
    tab = visit(None)
    tab.get_by_role("dialog").wait_for()
    tab.keyboard.type(name)
    tab.keyboard.press("Enter")
    tab.locator(".canvas img").first.wait_for()
    press(tab, "5")
    wait_saved(tab)
    assert len(stored(app, name)) == 1
    assert tab.locator(".person").inner_text() == name, "as text, not as HTML"


def test_ratings_are_brought_in_and_taken_along(app, visit, tmp_path):
    tab = visit("Brings", page="you")
    bring = tab.locator("#bring")
    table = tmp_path / "mine.csv"
    table.write_text("photo;stars\n001.png;5\n002.png;1\n003.png;3\nnowhere.png;2\n")
    bring.locator("input[type=file]").set_input_files(table)
    bring.get_by_text("3 ratings: 3 new.").wait_for()
    bring.get_by_text("1 row set aside").click()
    assert bring.get_by_text("'nowhere.png' is not one picture of this folder").is_visible()
    bring.locator("input[type=file]").set_input_files(table)
    bring.get_by_text("3 ratings: 3 known before.").wait_for()
    table.write_text("a,b\n1,2\n")
    bring.locator("input[type=file]").set_input_files(table)
    bring.get_by_text("mine.csv").last.wait_for()
    assert stored(app, "Brings") == [("001.png", 5), ("002.png", 1), ("003.png", 3)]

    tab.reload()
    tab.locator("#take").get_by_text("3 ratings; of these 3 from mine.csv.").wait_for()
    for name in ("CSV", "Rating rows", "Argilla", "Label Studio"):
        with tab.expect_download() as download:
            tab.locator("#take").get_by_role("link", name=name).click()
        kept = tmp_path / download.value.suggested_filename
        download.value.save_as(kept)
        other = visit(f"Takes {name}", page="you")
        other.locator("#bring input[type=file]").set_input_files(kept)
        other.get_by_text("3 ratings: 3 new.").wait_for()
        assert sorted(stored(app, f"Takes {name}")) == sorted(stored(app, "Brings"))


def test_a_file_of_several_people_on_another_scale(app, visit, tmp_path):
    table = tmp_path / "lab.csv"
    table.write_text("image,score,rater\n001.png,10,x\n002.png,0,x\n001.png,3,y\n")
    tab = visit("Rater x", page="you")
    bring = tab.locator("#bring")
    bring.locator("input[type=file]").set_input_files(table)
    bring.get_by_label("Whose ratings").select_option("x")
    bring.get_by_role("button", name="These").click()
    bring.get_by_label("from").wait_for()  # 10 and 0 are no ratings from 1 to 5
    assert bring.get_by_label("to", exact=True).input_value() == "10"
    bring.get_by_role("button", name="Read it so").click()
    bring.get_by_text("2 ratings: 2 new.").wait_for()
    assert stored(app, "Rater x") == [("001.png", 5), ("002.png", 1)]


def test_stars_are_written_from_rank_and_kinds_shown(app, visit, pictures):
    for number, image in enumerate(app.get("/api/next", person="Stars", n=12)["images"]):
        app.post("/api/ratings", person="Stars", id=str(number), image_id=image["id"], score=1 + number % 5)
    tab = visit("Stars", page="rank")
    tab.locator(".ranked li").first.wait_for()
    tab.get_by_role("button", name="Write XMP stars").click()
    tab.get_by_role("dialog").get_by_role("button", name="Write them").click()
    tab.get_by_text("60 pictures got your stars; 0 pictures kept").wait_for()
    sidecars = sorted(pictures.rglob("*.xmp"))
    assert len(sidecars) == 60
    for sidecar in sidecars:
        sidecar.unlink()
    tab.goto(f"{app.url}/#/taste")
    tab.get_by_text("by kind").wait_for()
    assert tab.locator(".kind img").count() >= 4


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """The source of axe-core."""
    if not shutil.which("npm"):
        pytest.skip(f"needs npm to fetch {AXE}")
    place = tmp_path_factory.mktemp("axe")
    try:
        done = subprocess.run(["npm", "pack", AXE], cwd=place, capture_output=True, text=True, timeout=120)
        why = done.stderr[-200:]
    except subprocess.TimeoutExpired:
        why = "no answer within two minutes"
    packed = list(place.glob("*.tgz"))
    if not packed:
        pytest.skip(f"npm did not give {AXE}: {why}")
    with tarfile.open(packed[0]) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(app, visit, axe, scheme):
    person = f"Axe {scheme}"
    for number, image in enumerate(app.get("/api/next", person=person, n=10)["images"]):
        app.post("/api/ratings", person=person, id=str(number), image_id=image["id"], score=1 + number % 5)
    tab = visit(person, color_scheme=scheme)
    found = {}

    def look(tab, name: str) -> None:
        tab.wait_for_function("() => !/Looking at|Scoring|Simulating/.test(document.querySelector('main').innerText)")
        tab.wait_for_timeout(300)
        tab.evaluate(axe)
        violations = tab.evaluate("async () => (await axe.run()).violations")
        serious = [one for one in violations if one["impact"] in ("serious", "critical")]
        if serious:
            found[name] = [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in serious]

    for page in PAGES:
        tab.goto(f"{app.url}/#/{page}")
        is_open(tab, HEADINGS[page])
        look(tab, page)
    tab.goto(f"{app.url}/#/rate")
    for mode in ("Pairs", "Nine"):
        tab.get_by_role("button", name=mode, exact=True).click()
        tab.locator(".pair, .nine").first.wait_for()
        look(tab, mode)
    first = visit(None, color_scheme=scheme)
    first.get_by_role("dialog").wait_for()
    look(first, "who is looking")
    assert not found, json.dumps(found, indent=1)


def test_the_next_pictures_are_there_before_they_are_needed(app, visit):
    """`scripts/bench_app.py` says in how many milliseconds."""
    tab = visit("Ahead")
    tab.locator(".canvas img").first.wait_for()
    tab.wait_for_load_state("networkidle")
    app.process.send_signal(signal.SIGSTOP)  # nothing is answered any more
    try:
        seen = set()
        for number in range(10):
            press(tab, str(1 + number % 5))
            tab.wait_for_function("() => document.querySelector('.canvas img')?.naturalWidth > 0")
            seen.add(shown(tab))
    finally:
        app.process.send_signal(signal.SIGCONT)
    assert len(seen) == 10
    wait_saved(tab)
    assert len(stored(app, "Ahead")) == 10


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits another process's files: Linux")
def test_a_disk_that_takes_nothing_is_shown_and_nothing_as_saved(app, visit):
    tab = visit("Full")
    tab.locator(".canvas img").first.wait_for()
    press(tab, "5")
    wait_saved(tab)
    before = resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))  # no file can be written
    try:
        for key in "12":
            press(tab, key)
        tab.locator("#banner").get_by_text("Not saved: the disk").wait_for()
        assert tab.locator(".saved").inner_text() == "2 not saved"
    finally:
        resource.prlimit(app.process.pid, resource.RLIMIT_FSIZE, before)
    wait_saved(tab)
    tab.wait_for_function("() => document.querySelector('.saved').textContent === 'Saved'")
    assert [score for _, score in stored(app, "Full")] == [5, 1, 2]
    assert tab.locator("#banner").inner_text() == ""


def test_an_app_that_does_not_answer_is_named_on_every_page(app, visit):
    tab = visit("Offline")
    tab.locator(".canvas img").first.wait_for()
    for page in PAGES:  # their scripts are loaded, as by somebody who has been there
        tab.goto(f"{app.url}/#/{page}")
        tab.locator("main h1").first.wait_for(state="attached")
    tab.route("**/api/**", lambda route: route.abort())
    for page in PAGES:
        tab.evaluate("page => { location.hash = `#/${page}`; }", page)
        tab.get_by_text("The app does not answer. Is it still running?").first.wait_for()
