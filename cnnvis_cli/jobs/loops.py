"""Running the gradient loop for a job: with a progress bar, resumable, Ctrl-C saving what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cnnvis_cli.engine.optim.loop import Loop, Outcome, Stage, Watch, synthesize, synthesize_stages
from cnnvis_cli.errors import Interrupted
from cnnvis_cli.jobs.progress import track
from cnnvis_cli.jobs.results import Results
from cnnvis_cli.jobs.resume import Resume
from cnnvis_cli.jobs.session import Session
from cnnvis_cli.pictures.write import to_image, write_png

OnStep = Callable[[int, Tensor, Tensor], None]
SPENT = "seconds spent"  # by the runs that were interrupted, in what they kept


class Loops:
    """The loops of one job. A page with several gives each a `key`; those that are done are not run again on resumption."""

    def __init__(self, label: str, results: Results, resume: Resume, session: Session, spent: Callable[[], float]) -> None:
        """`spent`: seconds that the job has taken so far."""
        self._label, self._results, self._resume, self._session, self._spent = label, results, resume, session, spent

    def run(self, loop: Loop, key: str = "loop", *, on_step: OnStep | None = None) -> Outcome:
        """Run the loop. Ctrl-C saves what there is and the state, and raises Interrupted; the same command then goes on from
        there."""
        return self._resumable(key, loop.steps, lambda state, watch: [synthesize(loop, state=state, watch=watch)], on_step)[-1]

    def run_stages(
        self, stages: Sequence[Stage], steps: int, key: str = "loop", *, on_step: OnStep | None = None
    ) -> list[Outcome]:
        """The same for loops that follow each other; `steps` is their sum, for the progress bar."""
        return self._resumable(key, steps, lambda state, watch: synthesize_stages(stages, state=state, watch=watch), on_step)

    def _resumable(
        self,
        key: str,
        total: int,
        run: Callable[[dict[str, Any] | None, Watch], list[Outcome]],
        on_step: OnStep | None,
    ) -> list[Outcome]:
        done = self._resume.get(f"done {key}")
        if done is not None:
            return [Outcome(**outcome) for outcome in done]
        state = self._resume.values.pop(f"running {key}", None)
        taken = 0
        with track(f"{self._label} {key}".removesuffix(" loop"), total, quiet=self._session.quiet) as bar:

            def step(number: int, values: Tensor, seen: Tensor) -> None:
                nonlocal taken
                taken += 1
                bar.advance(max(number, taken), f"objective {values.mean().item():.4g}")
                if on_step is not None:
                    on_step(number, values, seen)

            outcomes = run(state, Watch(step, self._session.interrupt))
        last = outcomes[-1]
        if last.stopped == "interrupted":
            self._interrupted(key, last)
        self._resume.keep(f"done {key}", [vars(outcome) | {"state": {}} for outcome in outcomes])
        return outcomes

    def _interrupted(self, key: str, outcome: Outcome) -> None:
        partial = self._results.path("partial")
        write_png(partial, to_image(torch.cat(list(outcome.pictures), dim=2)))
        self._resume.keep(f"running {key}", outcome.state)
        self._resume.keep(SPENT, self._spent())
        self._resume.save()
        raise Interrupted(
            f"interrupted after {len(outcome.trace)} steps; {partial} shows how far it came. "
            "The same command goes on from there."
        )
