"""The browser, for the tests that open a page."""

from tests.browser import browser

__all__ = ["browser"]
