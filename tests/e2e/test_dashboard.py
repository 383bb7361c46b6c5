"""The dashboard in a real browser, against the running app."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e import browser as browsers
from tests.e2e.driver import Driver, job_object, metric_events, running

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not (browsers.CHROMIUM and browsers.DRIVER), reason=browsers.MISSING),
]
SHOTS = Path(__file__).resolve().parents[2] / ".run" / "screenshots"
KEY = "the-function-key"
ATTACK = '<img src=x onerror="document.title=1">'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def driver(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driver]:
    async with running(tmp_path_factory.mktemp("run")) as started:
        good = await started.onboard("aoai-good")
        await started.put_account("aoai-watched", tags={"wandb-integration": "observe"})
        await started.put_job(
            good,
            "ftjob-live",
            job=job_object("ftjob-live", "running", model=ATTACK),
            events=metric_events("ftjob-live", 30),
        )
        await started.put_job(
            good,
            "ftjob-quiet",
            job=job_object("ftjob-quiet", f"odd {ATTACK}"),
            events=metric_events("ftjob-quiet", 2),
        )
        await started.job_with("ftjob-live", 60)
        await started.job_in("ftjob-quiet", ["live"])
        yield started


@pytest.fixture(scope="module")
def page() -> Iterator[Chrome]:
    with browsers.chromium() as started:
        yield started


async def in_browser(act: Callable[[], object]) -> object:
    """Run what drives the browser beside the loop that the stack lives on."""
    return await asyncio.to_thread(act)


def visit(page: Chrome, driver: Driver, query: str = "") -> None:
    page.get(f"{driver.host_url}/api/dashboard{query}")
    WebDriverWait(page, 10).until(lambda page: page.find_elements(By.ID, "accounts"))


def text(page: Chrome, selector: str) -> str:
    return page.find_element(By.CSS_SELECTOR, selector).text


async def test_matrix_shows_causes_and_remedies_when_opened(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        visit(page, driver)
        assert text(page, ".verdict") == "Action required: 1 of 2 accounts"
        row = page.find_element(By.XPATH, "//tr[th/a[text()='aoai-watched']]")
        cell = row.find_element(By.CSS_SELECTOR, ".sign.blocked")
        said = cell.find_element(By.XPATH, "following-sibling::span").get_attribute("textContent")
        assert said == "identity: blocked, identity_off"
        assert "az cognitiveservices account identity assign" in text(page, "#needs")
        browsers.shoot(page, SHOTS / "light-1280.png")
        assert browsers.errors(page) == []

    await in_browser(act)


async def test_remedy_is_on_the_clipboard_when_copied(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        page.execute_cdp_cmd(
            "Browser.grantPermissions",
            {
                "origin": driver.host_url,
                "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"],
            },
        )
        visit(page, driver)
        button = page.find_element(By.CSS_SELECTOR, "#needs .copy")
        remedy = button.find_element(By.XPATH, "preceding-sibling::pre").text
        button.click()
        WebDriverWait(page, 5).until(lambda _: button.text == "Copied")
        copied = page.execute_async_script(
            "const done = arguments[0]; navigator.clipboard.readText().then(done)"
        )
        assert copied.split() == remedy.split()

    await in_browser(act)


async def test_losses_are_drawn_when_values_were_relayed(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        visit(page, driver)
        row = page.find_element(By.XPATH, "//tr[th/span[text()='ftjob-live']]")
        chart = row.find_element(By.CSS_SELECTOR, "svg.chart")
        said = chart.get_attribute("aria-label")
        assert said.startswith("training loss 1.8")
        assert "validation loss" in said
        assert said.endswith("steps 1 to 30")
        points = chart.find_element(By.CSS_SELECTOR, ".line.train").get_attribute("points")
        assert len(points.split()) == 30

    await in_browser(act)


async def test_names_stay_text_when_they_are_markup(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        visit(page, driver)
        assert ATTACK in text(page, "#jobs")
        assert page.find_elements(By.CSS_SELECTOR, "img") == []
        assert page.title == "Fine-tuning relay"
        assert page.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.broken = 1';"
            "document.body.append(s); return window.broken === undefined"
        )
        browsers.errors(page)  # the refusal of that script is meant

    await in_browser(act)


async def test_progress_is_shown_when_resync_is_pressed(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        visit(page, driver)
        page.find_element(By.ID, "resync-all").click()
        box = page.find_element(By.ID, "progress")
        WebDriverWait(page, 30).until(lambda _: box.text.startswith("Re-sync done"))
        assert box.find_elements(By.TAG_NAME, "progress")
        assert "of" in box.text
        browsers.shoot(page, SHOTS / "resync.png")
        WebDriverWait(page, 10).until(lambda page: "apply everything" in text(page, "#resyncs"))
        assert browsers.errors(page) == []

    await in_browser(act)


@pytest_asyncio.fixture(loop_scope="module")
async def guarded(driver: Driver) -> AsyncIterator[tuple[str, list[str]]]:
    """Yield the address of the app in front of which keys are asked for, and what it was asked.

    As in Azure: 401 without a body where neither the header nor the address carries the key.
    """
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(str(request.rel_url))
        if KEY not in (request.headers.get("x-functions-key"), request.query.get("code")):
            return web.Response(status=401)
        async with driver.http.request(
            request.method,
            f"{driver.host_url}{request.rel_url}",
            data=await request.read(),
            headers={
                name: request.headers[name]
                for name in ("Content-Type", "If-None-Match")
                if name in request.headers
            },
        ) as answer:
            names = ("Content-Type", "Content-Security-Policy", "ETag")
            kept = {name: answer.headers[name] for name in names if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    app = web.Application()
    app.router.add_route("*", "/api/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()


async def test_key_is_only_in_headers_when_the_page_goes_on(
    guarded: tuple[str, list[str]], page: Chrome
) -> None:
    url, asked = guarded

    def texts(selector: str) -> list[str]:
        # In one step: the page may replace its parts between two.
        found = "return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)"
        return list(page.execute_script(found, selector))

    def shown(what: str) -> None:
        WebDriverWait(page, 10).until(lambda _: texts("#pages .quiet") == [what])

    def act() -> None:
        page.get(f"{url}/api/dashboard?code={KEY}&limit=1")
        assert page.current_url == f"{url}/api/dashboard?limit=1"
        assert KEY not in page.page_source
        page.find_element(By.LINK_TEXT, "Next").click()
        shown("Page 2 of 2")
        assert page.current_url == f"{url}/api/dashboard?limit=1&page=2"
        page.back()
        shown("Page 1 of 2")
        page.forward()
        shown("Page 2 of 2")
        page.find_element(By.NAME, "account").send_keys("aoai-watched", Keys.ENTER)
        shown("Page 1 of 1")
        assert page.current_url == f"{url}/api/dashboard?account=aoai-watched"
        assert texts(".matrix th a") == ["aoai-watched"]
        page.back()
        shown("Page 2 of 2")
        assert page.find_element(By.NAME, "account").get_attribute("value") == ""
        page.find_element(By.ID, "check-all").click()
        WebDriverWait(page, 30).until(
            lambda page: page.find_element(By.ID, "progress").text.startswith("Re-sync done")
        )
        kept = page.execute_script("return [location.href, document.documentElement.outerHTML]")
        assert KEY not in "".join(kept)
        assert browsers.errors(page) == []

    await in_browser(act)
    assert [one for one in asked if KEY in one] == [f"/api/dashboard?code={KEY}&limit=1"]
    assert len(asked) > 6


async def test_page_stays_where_it_is_when_it_refreshes_itself(
    driver: Driver, page: Chrome
) -> None:
    before = await driver.shown_job("ftjob-live")
    assert before is not None

    def act() -> None:
        visit(page, driver)
        browsers.resize(page, 1280, 500)
        page.find_element(By.XPATH, "//tr[th/a[text()='aoai-watched']]/following::summary").click()
        page.execute_script("window.kept = true; scrollTo(0, 400)")
        page.find_element(By.CSS_SELECTOR, "#jobs .resync").send_keys(Keys.NULL)
        page.execute_script("scrollTo(0, 400)")

    def wait() -> None:
        steps = "//tr[th/span[text()='ftjob-live']]//span[text()='step 35']"
        WebDriverWait(page, 30).until(lambda page: page.find_elements(By.XPATH, steps))
        assert page.execute_script("return window.kept")
        assert page.execute_script("return scrollY") == 400
        assert page.find_elements(By.CSS_SELECTOR, "details[open]")
        assert "Updated" in text(page, "#fresh")

    await in_browser(act)
    await driver.put_job(
        "aoai-good",
        "ftjob-live",
        job=job_object("ftjob-live", "running", model=ATTACK),
        events=metric_events("ftjob-live", 35),
    )
    await in_browser(wait)


async def test_page_is_usable_when_screen_is_small_or_dark(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        try:
            for scheme in ("light", "dark"):
                browsers.prefer(page, scheme)
                for width in (400, 1920):
                    browsers.resize(page, width)
                    visit(page, driver)
                    wide = page.execute_script("return document.documentElement.scrollWidth")
                    assert wide <= width
                    cut = page.execute_script(
                        "return [...document.querySelectorAll('.wide:has(.stacked, .jobs)')]"
                        ".filter((one) => one.scrollWidth > one.clientWidth)"
                        ".map((one) => one.getAttribute('aria-label'))"
                    )
                    assert cut == []
                    browsers.shoot(page, SHOTS / f"{scheme}-{width}.png")
                paper = page.execute_script(
                    "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"
                )
                assert (sum(map(int, paper)) < 200) is (scheme == "dark")
        finally:
            browsers.prefer(page, "light")
            browsers.resize(page, 1280)

    await in_browser(act)


async def test_everything_is_reached_when_only_keys_are_used(driver: Driver, page: Chrome) -> None:
    def act() -> None:
        visit(page, driver)
        wanted = page.find_elements(
            By.CSS_SELECTOR, "a, button, summary, input:not([type=hidden]), .wide"
        )
        reached = set()
        page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
        for _ in range(len(wanted) + 2):
            page.switch_to.active_element.send_keys(Keys.TAB)
            reached.add(page.switch_to.active_element.id)
        visible = [
            one
            for one in wanted
            if one.is_displayed() or "skip" in (one.get_attribute("class") or "")
        ]
        assert [one.text for one in visible if one.id not in reached] == []

    await in_browser(act)


@pytest.mark.skipif(not browsers.AXE.is_file(), reason="axe-core is not installed (npm ci)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
async def test_axe_finds_nothing_when_page_is_looked_at(
    driver: Driver, page: Chrome, scheme: str, width: int
) -> None:
    def act() -> object:
        browsers.prefer(page, scheme)
        browsers.resize(page, width)
        visit(page, driver)
        time.sleep(0.3)  # colours fade in
        page.execute_script(browsers.AXE.read_text(encoding="utf-8"))
        try:
            return page.execute_async_script(
                "const done = arguments[0];"
                "axe.run().then((r) => done(r.violations.map("
                "(v) => `${v.impact} ${v.id}: ${v.nodes.map((n) => n.html.slice(0, 90))}`)))"
            )
        finally:
            browsers.prefer(page, "light")
            browsers.resize(page, 1280)

    assert await in_browser(act) == []


async def test_page_says_what_may_load_when_asked_for(driver: Driver) -> None:
    async with driver.http.get(f"{driver.host_url}/api/dashboard") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        body = await answer.text()
    assert "src=" not in body.replace(ATTACK, "").replace("&lt;img src=", "")
    async with driver.http.get(f"{driver.host_url}/api/dashboard?page=x") as answer:
        assert answer.status == 400
