"""The page in a real browser: Debian's Chromium without a window."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mmcrosscl.reports import write_report
from tests.reports.work_dirs import (
    START,
    TERMS,
    write_detector_run,
    write_run,
    write_session,
    write_similarity,
)

PROGRAMS = [shutil.which(name) for name in ('chromium', 'chromedriver')]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow(15),
    pytest.mark.skipif(
        None in PROGRAMS,
        reason='needs Chromium and chromedriver: apt-get install chromium chromium-driver',
    ),
]
ARGUMENTS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
)  # fmt: skip
EVIL = '<script>document.title = "evil"</script><img src=x onerror="document.title = \'evil\'">'


class Page:
    """A page that is open in the browser."""

    def __init__(self, browser: webdriver.Chrome, path: Path) -> None:
        self.browser = browser
        browser.get_log('performance'), browser.get_log('browser')
        browser.get(f'file://{path}')
        self.wait('document.documentElement.dataset.drawn')

    def run(self, script: str, *arguments):
        """Return the value of a JavaScript expression."""
        return self.browser.execute_script(f'return {script}', *arguments)

    def wait(self, condition: str, seconds: float = 60):
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f'{condition} is still {value}'
            time.sleep(0.05)
        return value

    def double_click(self, element, condition: str) -> None:
        """Double-click an element until a JavaScript expression is true.

        Plotly ignores a second click later than 300 ms, as happens on a busy machine.
        """
        for _ in range(10):
            webdriver.ActionChains(self.browser).double_click(element).perform()
            with contextlib.suppress(AssertionError):
                return self.wait(condition, seconds=6)
        raise AssertionError(f'{condition} is still false after 10 double clicks')

    def find(self, selector: str):
        """Return the first element of a CSS selector."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def range(self, figure: int = 0) -> list[float]:
        """Return the range of the horizontal axis of a figure."""
        return self.run(f"document.getElementById('f{figure}').layout.xaxis.range")

    def requests(self) -> list[str]:
        """Return the addresses that the browser has requested, without those within the page."""
        messages = [
            json.loads(x['message'])['message'] for x in self.browser.get_log('performance')
        ]
        addresses = [
            message['params']['request']['url'] for message in messages
            if message['method'] == 'Network.requestWillBeSent'
        ]  # fmt: skip
        return [x for x in addresses if not x.startswith(('data:', 'blob:'))]

    def errors(self) -> list[str]:
        """Return the messages in the console."""
        return [entry['message'] for entry in self.browser.get_log('browser')]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Return whether a condition becomes true."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return true


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = PROGRAMS[0]
    profile = tmp_path_factory.mktemp('profile')
    for argument in (*ARGUMENTS, f'--user-data-dir={profile}', '--window-size=1280,900'):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(PROGRAMS[1]))
    yield browser
    browser.quit()


@pytest.fixture
def display(browser):
    """Return a function that sets the width of the screen and the color scheme."""

    def display(width: int = 1280, scheme: str = 'light') -> None:
        metrics = dict(width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        features = [dict(name='prefers-color-scheme', value=scheme)]
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=features))

    display()
    yield display
    display()


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    """Return the path of the report of a run."""
    run = write_run(tmp_path_factory.mktemp('work') / 'run')
    write_similarity(run / 'similarity')
    return write_report([run])


@pytest.fixture
def page(browser, display, path):
    return Page(browser, path)


def test_the_page_opens_and_draws_curves_without_errors_or_requests(page, path):
    figures = page.run("document.querySelectorAll('.plot').length")
    assert figures == 13
    count = "p => p.querySelectorAll('path.js-line').length"
    counts = page.run(f"[...document.querySelectorAll('.plot')].map({count})")
    # the total loss, and the losses of the terms
    assert counts[:2] == [1, 5] and min(counts) >= 1
    lines = page.run(
        "[...document.querySelectorAll('#f1 path.js-line')].map(p => p.getTotalLength())"
    )
    assert min(lines) > 100
    # 3 lines and the fills of 3 bands
    assert page.run("document.querySelectorAll('#f7 .js-fill').length") == 3
    assert page.run("document.querySelectorAll('#f0 .shapelayer path').length") == 1
    assert page.run('[...document.images].every(i => i.complete && i.naturalWidth > 0)')
    time.sleep(0.5)
    assert page.errors() == [] and page.requests() == [f'file://{path}']


def test_a_request_would_be_blocked_and_noticed(page):
    """The policy forbids requests, and the log would show them."""
    address = 'http://127.0.0.1:9/x.png'
    page.run(f"document.body.append(Object.assign(new Image(), {{src: '{address}'}}))")
    assert eventually(lambda: any('Content Security Policy' in text for text in page.errors()))
    page.browser.get(f'data:text/html,<img src="{address}">')
    assert eventually(lambda: address in page.requests())


def test_a_checkbox_hides_its_curve(page):
    box = page.find("input[data-figure='1'][data-series='2']")
    shown = "document.querySelectorAll('#f1 .scatterlayer .trace').length"
    before = page.run("document.getElementById('f1').layout.yaxis.range")
    box.click()
    page.wait(f'{shown} == 4')
    # the keyboard toggles it, too
    box.send_keys(Keys.SPACE)
    page.wait(f'{shown} == 5')
    page.find("input[data-figure='1'][data-series='4']").click()
    page.wait(f'{shown} == 4')
    # the axis fits the rest: without P3 → P4, the highest of the terms
    after = page.run("document.getElementById('f1').layout.yaxis.range")
    assert after[1] < before[1] - 0.5


def test_a_logarithmic_axis(page):
    page.find("input[data-log='0']").click()
    page.wait("document.getElementById('f0').layout.yaxis.type == 'log'")
    low, high = page.run("document.getElementById('f0').layout.yaxis.range")
    assert 10**low == pytest.approx(24.5, abs=0.7) and 10**high == pytest.approx(38.7, abs=0.7)


def test_the_fields_and_a_drag_zoom_all_figures(page):
    field = page.find('#from')
    field.send_keys(Keys.CONTROL, 'a', Keys.NULL, '50', Keys.TAB)
    page.wait("document.getElementById('f12').layout.xaxis.range[0] == 50")
    assert page.range() == [50, 100]
    # the vertical axis fits the visible part
    assert page.run("document.getElementById('f0').layout.yaxis.range")[1] < 33
    page.find('#reset').click()
    page.wait("document.getElementById('f12').layout.xaxis.range[0] < 10")
    box = page.find('#f0 .nsewdrag')
    page.run("(arguments[0].scrollIntoView({block: 'center'}), 1)", box)
    actions = webdriver.ActionChains(page.browser, duration=100)
    actions.move_to_element_with_offset(box, -100, 0).click_and_hold().move_by_offset(80, 0)
    actions.move_by_offset(80, 0).release().perform()
    page.wait("document.getElementById('f12').layout.xaxis.range[0] > 20")
    left, right = page.range()
    assert 20 < left < right < 80 and page.run("document.getElementById('from').value") == str(
        round(left)
    )
    page.double_click(box, "document.getElementById('f12').layout.xaxis.range[0] < 10")
    # an empty range is not accepted
    field = page.find('#to')
    field.send_keys(Keys.CONTROL, 'a', Keys.NULL, '5', Keys.TAB)
    page.wait("document.getElementById('to').value == '100'")
    assert page.errors() == []


def test_the_plots_follow_the_color_scheme(page, display):
    style = "getComputedStyle(document.querySelector('#f0 path.js-line')).stroke"
    paper = 'getComputedStyle(document.body).backgroundColor'
    light = page.run(style), page.run(paper)
    display(scheme='dark')
    page.wait(f"{style} != '{light[0]}'")
    dark = page.run(paper)
    assert brightness(light[1]) > 240 and brightness(dark) < 40
    assert (
        brightness(page.run("getComputedStyle(document.querySelector('#f0 .xtick text')).fill"))
        > 130
    )
    display(scheme='light')
    page.wait(f"{style} == '{light[0]}'")


def brightness(color: str) -> float:
    """Return the mean of the channels of a color such as 'rgb(1, 2, 3)'."""
    return float(np.mean([float(x) for x in color[color.index('(') + 1 : -1].split(',')[:3]]))


@pytest.mark.parametrize('width', [390, 320, 768, 1280])
def test_the_page_does_not_scroll_sideways(browser, display, path, tmp_path, width):
    display(width)
    several = [write_run(tmp_path / f'{"long" * 15}{n}') for n in range(3)]
    for each in (path, write_report(several)):
        page = Page(browser, each)
        assert page.run('document.scrollingElement.scrollWidth') <= width
        # wide tables scroll in their container
        widest = page.run(
            "Math.max(...[...document.querySelectorAll('table')].map(t => t.offsetWidth))"
        )
        assert width > 700 or widest > width
        text = page.run("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)")
        assert text >= 12


def test_the_keyboard_reaches_everything_in_order(page):
    seen = []
    page.run('document.activeElement.blur()')
    while not seen or seen[-1][0] != 'BODY':
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(page.run(
            "(e => [e.tagName, e.getAttribute('href') ?? e.id, e.matches(':focus-visible'), "
            "parseFloat(getComputedStyle(e).outlineWidth), "
            "e.getBoundingClientRect().top + scrollY])(document.activeElement)"
        ))  # fmt: skip
    seen.pop()
    assert len(seen) > 40 and seen[0][:2] == ['A', '#main']
    assert all(focus and width for *_, focus, width, _ in seen)
    order = [name for _, name, *_ in seen]
    assert order.index('#training') < order.index('from') < order.index('to') < order.index('reset')
    assert [tag for tag, *_ in seen].count('INPUT') > 10
    places = [top for tag, name, *_, top in seen if tag == 'INPUT' and not name]
    # two figures may be side by side
    assert all(b > a - 500 for a, b in zip(places, places[1:]))


def test_several_runs_are_toggled_together(browser, display, tmp_path):
    runs = [
        write_run(tmp_path / 'a'),
        write_run(tmp_path / 'b'),
        write_detector_run(tmp_path / 'c'),
    ]
    page = Page(browser, write_report(runs))
    traces = "document.querySelectorAll('#f0 .scatterlayer .trace').length"
    assert page.run(traces) == 3
    page.find("input[data-run='1']").click()
    page.wait(f'{traces} == 2')
    assert not page.run(
        '[...document.querySelectorAll("[data-of=\'1\']")].some(box => box.checked)'
    )
    page.wait("document.querySelectorAll('#f1 .scatterlayer .trace').length == 1")
    assert page.errors() == []


def test_scripts_in_names_do_not_run(browser, display, tmp_path):
    run = write_run(tmp_path / EVIL.replace('/', ''))
    (run / 'broken_images.txt').write_text(f'<script>alert(1)</script>.jpg\t{EVIL}\n')
    (run / 'run.py').write_text(f'x = {{{EVIL!r}: {EVIL!r}}}\n')
    write_similarity(run / 'similarity', (EVIL, f'"> {EVIL}'))
    entry = dict({f'loss_{EVIL}': 1.0, 'loss_</script><b>': 1.0}, iter=7, step=7)
    log = write_session(run, [entry, dict({f'{EVIL}/x': 1.0}, step=0)], START.replace(year=2027))
    log.write_text(log.read_text().replace('ResNet-18', EVIL).replace('H100', EVIL))
    page = Page(browser, write_report([run]))
    time.sleep(0.5)
    assert page.run('document.title').endswith('– mmcrosscl report')
    text = page.find('#unreadable').find_element(By.XPATH, '..').text
    assert '<script>alert(1)</script>.jpg' in text
    assert page.find('h1').text == EVIL.replace('/', '')
    # those of the page: data, plotly.js and its own
    assert page.run('document.scripts.length') == 3
    assert page.run('document.querySelectorAll(\'img:not([src^="data:"])\').length') == 0
    assert page.errors() == [] and len(page.requests()) == 1


def test_an_injected_script_would_be_blocked(browser, display, path, tmp_path):
    """The policy stops a script even if its text were not escaped."""
    changed = tmp_path / 'changed.html'
    script = '<script>document.title = "evil"</script>'
    changed.write_text(path.read_text().replace('</h1>', f'</h1>{script}'))
    page = Page(browser, changed)
    assert page.run('document.title') == 'run – mmcrosscl report'
    assert eventually(lambda: any('Content Security Policy' in text for text in page.errors()))


@pytest.mark.soak
def test_a_run_of_a_million_iterations_fits_a_page(browser, display, tmp_path):
    run = write_run(tmp_path / 'run')
    log = next(run.glob('*/vis_data/scalars.json'))
    rng = np.random.default_rng(0)
    names = ['lr', 'loss', *(f'{kind}_{term}' for kind in ('loss', 'acc') for term in TERMS)]
    names += ['time', 'images_per_second', 'data_wait', 'memory', 'gradient_norm', 'paired_share']
    line = ''.join(f'"{name}": {{}}, ' for name in names)
    with log.open('w') as file:
        for start in range(0, 10**6, 10**4):
            values = rng.normal(100, 10, (10**4, len(names)))
            file.writelines(
                f'{{{line.format(*row)}"iter": {n}, "step": {n}}}\n'
                for n, row in enumerate(values.tolist(), start + 1)
            )
    report = write_report([run])
    assert report.stat().st_size < 10e6
    page = Page(browser, report)
    assert page.run("document.getElementById('to').value") == '1000000'
    assert page.run("document.querySelectorAll('#f1 path.js-line').length") == 5
