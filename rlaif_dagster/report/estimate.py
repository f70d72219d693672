"""A number with its interval, and how numbers are written: one way, in sentences, tables and plots alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from rlaif_dagster.statistics import Z95, detectable, items_needed

MINUS = "\N{MINUS SIGN}"
FINE = 1000  # items from which a tenth of a percent means something


@dataclass(frozen=True)
class Estimate:
    """A share or a difference of shares, its 95% interval (nan where unknown) and the number of items behind it.

    `seed_share` is the part of its variance that comes from the training seeds, None where no side has more than one.
    """

    value: float
    low: float
    high: float
    n: int
    seed_share: float | None = None

    def sign(self, zero: float = 0.0) -> int:
        """1 when the whole interval lies above `zero`, -1 when below, 0 when it includes it or is unknown."""
        if self.low > zero:
            return 1
        return -1 if self.high < zero else 0

    def sign_among(self, looks: int, zero: float = 0.0) -> int:
        """`sign` when this is one of `looks` numbers of which the best will be quoted: the interval is widened as
        Bonferroni's correction asks, so that all of them together are wrong in one case of twenty at most."""
        if looks <= 1:
            return self.sign(zero)
        factor = NormalDist().inv_cdf(1 - 0.025 / looks) / Z95
        low, high = self.value - factor * (self.value - self.low), self.value + factor * (self.high - self.value)
        return replace(self, low=low, high=high).sign(zero)

    def detectable(self) -> float:
        """The smallest true difference that as many items would have shown with 80% power, from the interval's width."""
        return detectable(self._deviation, self.n)

    def items_needed(self, zero: float = 0.0) -> int | None:
        """Items it takes to tell a true difference of the size seen from `zero` with 80% power; None where there is none
        to tell, no interval to know the spread from, or where the seeds, and not the items, are what is too few."""
        gap = abs(self.value - zero)
        if not self.has_interval or gap < 1e-9 or not self._deviation or self.between_seeds:
            return None
        return items_needed(gap, self._deviation)

    @property
    def between_seeds(self) -> bool:
        """Whether most of the uncertainty lies between training seeds."""
        return self.seed_share is not None and self.seed_share > 0.5

    @property
    def _deviation(self) -> float:
        """Standard deviation of an item that would make an interval of this width."""
        return (self.high - self.low) / 2 / Z95 * math.sqrt(self.n)

    @property
    def has_interval(self) -> bool:
        return not (math.isnan(self.low) or math.isnan(self.high))

    @property
    def share(self) -> str:
        """`91%`"""
        return percent(self.value, self.n)

    @property
    def share_range(self) -> str:
        """`82 to 96%`; empty without an interval."""
        return f"{number(100 * self.low, self.n)} to {percent(self.high, self.n)}" if self.has_interval else ""

    @property
    def points(self) -> str:
        """`+7 points`"""
        text = signed(100 * self.value, self.n)
        return f"{text} point" if text.lstrip("+" + MINUS) == "1" else f"{text} points"

    @property
    def points_range(self) -> str:
        """`+1 to +13`; empty without an interval."""
        return f"{signed(100 * self.low, self.n)} to {signed(100 * self.high, self.n)}" if self.has_interval else ""


def number(value: float, n: int = 0) -> str:
    """A percentage without its sign, with a decimal only where n is large enough to carry it; a true minus."""
    text = f"{value:.{1 if n >= FINE else 0}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def percent(value: float, n: int = 0) -> str:
    """`91%`"""
    return f"{number(100 * value, n)}%"


def signed(value: float, n: int = 0) -> str:
    """`+7`, `−3`, `0`"""
    text = number(value, n)
    return text if text.startswith(MINUS) or float(text) == 0 else f"+{text}"


def joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
