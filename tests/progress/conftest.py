"""A real browser, for the tests of pages."""

import pytest

from tests.helpers.browser import Browser, find_browser


@pytest.fixture
def browser(tmp_path):
    program = find_browser()
    if program is None:
        pytest.skip("no browser is installed (chromium, google-chrome; or PCALL_TEST_BROWSER)")
    browser = Browser(program, tmp_path / "profile")
    yield browser
    browser.close()
