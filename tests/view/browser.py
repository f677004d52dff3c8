"""The system's Chromium, with one page at a time."""

import os
import shutil
import time
from contextlib import contextmanager

import pytest


class Tab:
    """A page, and what it said and requested meanwhile."""

    def __init__(self, page):
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        self.run, self.press, self.click = page.evaluate, page.keyboard.press, page.click

    def until(self, script, seconds=60.0):
        """Wait for an expression to be true. The pages' policy forbids what ``wait_for_function`` does."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.02)


@contextmanager
def chromium():
    """A function that opens a file in a tab."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Chromium is not installed")

    from playwright.sync_api import sync_playwright

    @contextmanager
    def opened(path, *, width=1200, scheme="light", **screen):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **screen)
        tab = Tab(page)
        page.goto(path.as_uri())
        yield tab
        page.close()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])
        yield opened
        browser.close()
