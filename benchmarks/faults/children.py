"""Child processes as the parent sees them: what they tell, and how they are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_WAIT_S = 900.0
_LOOK_S = 0.5


class Child:
    """A child process that tells facts, one JSON object a line.

    Attributes:
        facts: the last value told of each fact.
        said: everything told, in order.
        clock_step: by how much its wall clock has gone back at most from one fact to the next.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str]) -> None:
        self.facts: dict[str, Any] = {}
        self.said: list[dict[str, Any]] = []
        self.has_ended = False
        self.clock_step = timedelta()
        self._clock: datetime | None = None
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self._thread = threading.Thread(target=self._listen, name="faults-child")
        self._thread.start()

    def until(
        self, fact: str, at_least: float | None = None, *, source: Child | None = None
    ) -> None:
        """Wait until a fact has been told, and is no smaller, or the child has ended.

        Args:
            fact: what is waited for.
            at_least: how large it must be.
            source: who gives the child its work; once it has ended no more will come.

        Raises:
            TimeoutError: it does not come; says what was told last.
        """
        self._wait_for(
            lambda: (
                (fact in self.facts and (at_least is None or self.facts[fact] >= at_least))
                or (source is not None and source.has_ended)
            ),
            f"{fact} of {at_least}",
        )

    def until_logged(self, *words: str) -> None:
        """Wait until a message with one of these words has been told, or the child has ended."""
        self._wait_for(
            lambda: any(word in line for word in words for line in self.logged()),
            f"a word about {words}",
        )

    def until_ended(self) -> None:
        """Wait until the child has ended."""
        self._wait_for(lambda: self.has_ended, "its end")
        self._thread.join()
        self._process.wait()

    def kill(self) -> None:
        """Kill it (SIGKILL on POSIX) and return when it is gone; a second call does nothing."""
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def logged(self) -> list[str]:
        """Return what a person at this process would have read."""
        words = [fact.get("log") or fact.get("problem") or fact.get("error") for fact in self.said]
        return [each for each in words if each]

    def _wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        with self._news:
            for _ in range(int(_WAIT_S / _LOOK_S)):  # what another child does is no news here
                if self._news.wait_for(lambda: is_so() or self.has_ended, _LOOK_S):
                    return
        raise TimeoutError(f"waited for {what}, but heard {self.said[-3:]}")

    def _listen(self) -> None:
        """Take in what the child tells, until it has ended."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        with self._process.stdout as lines:
            for line in lines:
                self._take(json.loads(line))
        with self._news:
            self.has_ended = True
            self._news.notify_all()

    def _take(self, facts: dict[str, Any]) -> None:
        clock = datetime.fromisoformat(facts["utc"])
        with self._news:
            self.clock_step = max(self.clock_step, (self._clock or clock) - clock)
            self._clock = clock
            self.facts.update(facts)
            if facts.keys() - {"utc"} - {"sent", "recorded"}:
                self.said.append(facts)
            self._news.notify_all()


def python_child(module: str, arguments: Mapping[str, Any], **environment: str) -> Child:
    """Start a module of the campaign as a child."""
    command = [sys.executable, "-m", f"benchmarks.faults.{module}", json.dumps(arguments)]
    return Child(command, environment=environment)
