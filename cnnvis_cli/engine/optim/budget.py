"""A run over several scales that ends in time: the clock is looked at while it runs, and what does not fit is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# What comes after the last step (cutting, saving, measuring the saved picture), in steps of the last scale.
FINISH = 2.5
# A scale is begun where so many steps of it, and of those before it, fit into what is left.
FEWEST = 8
_RECENT = 5  # steps that tell the pace


@dataclass
class Budget:
    """Shares the time until `ends`, a reading of the `clock`, out over scales as they are run.

    `work`: what one step at each scale costs, in any unit; `pace`: seconds per unit, kept up with what is measured.
    `shrinks`: whether the last scales may be left out. Every scale that is run gets at least one step.
    """

    work: Sequence[float]
    pace: float
    ends: float
    clock: Callable[[], float]
    shrinks: bool = False

    def begin(self, number: int) -> bool:
        """Take up a scale; False where it, and so those after it, are to be left out."""
        self._number, self._steps = number, list[float]()
        self._mark: float | None = None
        self._leave_out(number)
        return not number >= len(self.work)

    def enough(self, steps: int) -> bool:
        """Asked before every step, after so many of this scale: whether one more would take longer than there is."""
        now = self.clock()
        if self._mark is None:  # now that what prepares the scale is done
            left = max(0.0, self._left(len(self.work)))
            self._share = now + left * self.work[self._number] / sum(self.work[self._number :])
        else:
            self._steps = [*self._steps, now - self._mark][-_RECENT:]
            self.pace = sum(self._steps) / len(self._steps) / self.work[self._number]
        self._mark = now
        step = self.pace * self.work[self._number]
        if now + step > self._share:  # before this scale ends: if none comes after it, it has the time that is left
            self._leave_out(self._number + 1)
        last = self._number == len(self.work) - 1
        return steps > 0 and now + step > (self.ends - FINISH * step if last else self._share)

    def _leave_out(self, first: int) -> None:
        """The last scales, from `first` on, of which too few steps would fit."""
        last = len(self.work)
        while self.shrinks and last > first and self._left(last) < FEWEST * self.pace * sum(self.work[first:last]):
            last -= 1
        self.work = self.work[: max(last, 1)]

    def _left(self, count: int) -> float:
        """Seconds for steps where `count` scales are run."""
        return self.ends - self.clock() - FINISH * self.pace * self.work[count - 1]
