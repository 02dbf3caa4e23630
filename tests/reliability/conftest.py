"""The figures of docs/reliability.md: each fault, how often it was tried, and what was lost."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class FaultCounter:
    """How often each fault was tried, how often what must hold held, and the most that was lost."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.lost: dict[str, tuple[float, str]] = {}

    @contextmanager
    def attempt(self, fault: str) -> Iterator[None]:
        """One try, survived if the block ends without an error."""
        self.tried[fault] += 1
        yield
        self.survived[fault] += 1

    def lose(self, fault: str, amount: float, unit: str = "steps lost") -> None:
        self.lost[fault] = max(self.lost.get(fault, (amount, unit)), (amount, unit))

    def lines(self) -> Iterator[str]:
        for fault, tried in self.tried.items():
            amount, unit = self.lost.get(fault, (None, ""))
            lost = "" if amount is None else f", at most {amount:g} {unit}"
            yield f"{fault}: {tried} tried, {self.survived[fault]} survived{lost}"


FAULTS = pytest.StashKey[FaultCounter]()


@pytest.fixture(scope="session")
def faults(request: pytest.FixtureRequest) -> FaultCounter:
    return request.config.stash.setdefault(FAULTS, FaultCounter())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if FAULTS in config.stash:
        terminalreporter.section("faults")
        for line in config.stash[FAULTS].lines():
            terminalreporter.line(line)
