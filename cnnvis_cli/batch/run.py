"""`cnnvis run`: from a jobs file to results, a table and results.jsonl. The queue that all engines share."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cnnvis_cli.batch.jobsfile import place_of, read_jobs
from cnnvis_cli.batch.places import check_writable, filesystem, is_address, read_result
from cnnvis_cli.batch.plan import Planned, make_plan, parse_shard, partition
from cnnvis_cli.config.load import find_config
from cnnvis_cli.errors import Interrupted, RunError, UserError
from cnnvis_cli.files.atomic import atomic
from cnnvis_cli.jobs.check import check_device
from cnnvis_cli.jobs.progress import Interrupt, Task, track

if TYPE_CHECKING:
    from cnnvis_cli.batch.executors import Engine
    from cnnvis_cli.batch.work import Finished

_ROWS_SHOWN = 40


@dataclass(frozen=True)
class Options:
    """What the command line says besides the jobs."""

    out: str | None = None
    workers: int | None = None
    threads: int | None = None
    devices: Sequence[str] = ("auto",)
    engine: str = "local"
    shard: str | None = None
    fail_fast: bool = False
    overwrite: bool = False
    quiet: bool = False
    as_json: bool = False
    offline: bool = False
    trust_code: bool = False
    yes: bool = False


@dataclass
class Tally:
    """How the jobs stand, and what is told of each as it ends."""

    tell: Callable[[Planned, Finished], None]
    ended: dict[str, Finished] = field(default_factory=dict)

    def count(self, *statuses: str) -> int:
        return sum(finished.status in statuses for finished in self.ended.values())

    def add(self, job: Planned, finished: Finished) -> None:
        self.ended[job.sidecar] = finished
        self.tell(job, finished)


def plan_of(file: str, settings: Sequence[str], options: Options) -> tuple[str, list[Planned]]:
    """The folder of the results and the jobs of this shard, all checked."""
    path = find_config(file, "jobs")
    jobs = read_jobs(path)
    root = place_of(options.out, Path()) if options.out else jobs.out or place_of(f"runs/{path.stem}", Path())
    plan = make_plan(jobs, root, settings, many=options.yes)
    if options.shard:
        part, parts = parse_shard(options.shard)
        plan = plan[part - 1 :: parts]
    return root, plan


def show_plan(file: str, settings: Sequence[str], options: Options) -> None:
    """What would be run, and what of it is there already, on stdout. UserError for an engine or device that cannot be."""
    if options.engine not in ("local", "ray"):
        raise UserError(f"--engine {options.engine}: must be local or ray.")
    for device in options.devices:
        check_device(device)
    _, plan = plan_of(file, settings, options)
    todo = {job.sidecar for job in partition(plan, overwrite=options.overwrite)[0]}
    if options.as_json:
        for job in plan:
            line = {"command": job.command, "name": job.name, "sidecar": job.sidecar, "config_hash": job.hash}
            config = job.config.model_dump(mode="json")
            print(json.dumps({**line, "done": job.sidecar not in todo, "config": config}, ensure_ascii=False))
        return
    width = max((len(job.command) for job in plan), default=0)
    for job in plan:
        print(f"{'to do' if job.sidecar in todo else 'done '}  {job.command:<{width}}  {_shown(job)}")
    networks = len({job.network for job in plan})
    print(
        f"{_many(len(plan), 'job')} on {_many(networks, 'network')}: {len(todo)} to do, {len(plan) - len(todo)} done.",
        file=sys.stderr,
    )


def run_jobs(file: str, settings: Sequence[str], options: Options) -> None:
    """Do all that is missing. Raises RunError at the end if a job failed, Interrupted after Ctrl-C."""
    root, plan = plan_of(file, settings, options)
    todo, done = partition(plan, overwrite=options.overwrite)
    check_writable([root, *(job.folder for job in todo)])
    check_networks(todo, options)
    if not options.quiet:
        for folder in dict.fromkeys(job.folder for job in plan if not f"{job.folder}/".startswith(f"{root}/")):
            print(f"results also go to {folder}", file=sys.stderr)
    from cnnvis_cli.batch.work import Finished

    began = time.monotonic()
    tally = Tally(_teller(options))
    for job in done:
        kept = read_result(job.folder, job.name)
        tally.add(job, Finished("kept", files=[f"{job.folder}/{file}" for file in kept.record.files] if kept else []))
    interrupt = Interrupt()
    if todo:
        with interrupt.listen():
            _work_through(todo, tally, options, interrupt, label=Path(file).stem)
    lines = f"results{'-' + options.shard.replace('/', '-of-') if options.shard else ''}.jsonl"
    _write_lines(root, lines, plan, tally)
    if not options.quiet:
        _print_table(plan, tally, time.monotonic() - began)
        print(f"{root}/{lines}", file=sys.stderr)
    if interrupt():
        missing = len(plan) - tally.count("done", "kept", "failed")
        raise Interrupted(f"interrupted; {_many(missing, 'job')} left. The same command goes on from there.")
    if failed := tally.count("failed"):
        stopped = f", {len(plan) - len(tally.ended)} not begun" if len(tally.ended) < len(plan) else ""
        raise RunError(f"{failed} of {_many(len(plan), 'job')} failed{stopped}. The same command tries them again.")
    _say_left_out(plan, tally)


def _say_left_out(plan: Sequence[Planned], tally: Tally, most: int = 10) -> None:
    """What single commands say too: pictures without which results were made. Raises RunError where there are any."""
    found = [(job, read_result(job.folder, job.name)) for job in plan if job.sidecar in tally.ended]
    left = [(job, reason) for job, result in found if result is not None for reason in result.record.skipped.values()]
    for job, reason in left[:most]:
        print(f"{_shown(job)}: left out: {reason}", file=sys.stderr)
    if left:
        jobs = _many(len({job.sidecar for job, _ in left}), "job")
        raise RunError(f"{_many(len(left), 'picture')} that could not be read left out of {jobs}; each JSON names its own.")


def check_networks(todo: Iterable[Planned], options: Options) -> None:
    """Networks that cannot be had are told before the first job runs, all at once."""
    from cnnvis_cli.errors import ConfigError, did_you_mean
    from cnnvis_cli.networks.load import model_names

    known, problems = set(model_names()), []
    for model in dict.fromkeys(model for job in todo if (model := getattr(job.config, "model", ""))):
        if ":" in model:
            if not options.trust_code:
                problems.append(f"model={model} would run your Python code. Add --trust-code if you trust it.")
        elif model not in known:
            problems.append(f"no model '{model}'.{did_you_mean(model, known)} `cnnvis models` lists them.")
    if problems:
        raise ConfigError(problems)


def _open(todo: Sequence[Planned], options: Options, interrupt: Interrupt) -> Engine:
    from cnnvis_cli.batch.executors import cores, open_engine
    from cnnvis_cli.batch.work import Flags
    from cnnvis_cli.jobs.session import device_of

    workers = options.workers or len(options.devices)
    if options.engine == "local":
        for device in options.devices:
            device_of(device)
        workers = min(workers, max(1, len(todo)))
    # A number of threads that is the same on every engine makes the same bytes on every engine.
    threads = options.threads or (max(1, cores() // workers) if workers > 1 or options.engine == "ray" else None)
    flags = Flags(options.overwrite, options.offline, options.trust_code, threads, str(Path().absolute()))
    return open_engine(options.engine, workers, options.devices, flags, interrupt)


def _work_through(todo: Sequence[Planned], tally: Tally, options: Options, interrupt: Interrupt, label: str) -> None:
    """Keep every place of the engine busy until nothing is left, or until asked to stop."""
    engine = _open(todo, options, interrupt)
    try:
        with track(label, len(todo), quiet=options.quiet) as bar:
            _schedule(engine, todo, tally, interrupt, bar, fail_fast=options.fail_fast)
    finally:
        engine.close()


def _schedule(
    engine: Engine, todo: Sequence[Planned], tally: Tally, interrupt: Interrupt, bar: Task, *, fail_fast: bool = False
) -> None:
    queue, running, died, told = deque(todo), 0, set[str](), False
    before = len(tally.ended)
    not_before: dict[str, float] = {}
    while queue or running:
        stopping = interrupt() or (fail_fast and tally.count("failed"))
        if interrupt() and not told:
            engine.interrupt()
            told = True
        if stopping:
            queue.clear()
        while queue and running < engine.places and not_before.get(queue[0].sidecar, 0) <= time.monotonic():
            engine.submit(queue.popleft())
            running += 1
        bar.advance(len(tally.ended) - before, f"{running} running, {tally.count('failed')} failed")
        if not running:
            time.sleep(0.1)  # what is left is being done by another runner
            continue
        for job, finished in engine.wait(0.5):
            running -= 1
            if finished.status == "busy":
                not_before[job.sidecar] = time.monotonic() + 0.5
                queue.append(job)
            elif finished.status == "died" and job.sidecar not in died:
                died.add(job.sidecar)
                print(f"{_shown(job)}: {finished.error}; trying once more.", file=sys.stderr, flush=True)
                queue.appendleft(job)
            elif finished.status == "died":
                tally.add(job, type(finished)("failed", finished.error + ", twice"))
            else:
                tally.add(job, finished)


def _teller(options: Options) -> Callable[[Planned, Finished], None]:
    """Paths (or JSON lines) on stdout as jobs end, failures on stderr."""

    def tell(job: Planned, finished: Finished) -> None:
        if options.as_json:
            from cnnvis_cli.batch.work import row_of

            fresh = {"fresh": finished.status == "done"}
            print(json.dumps({**row_of(job, finished), **fresh}, ensure_ascii=False), flush=True)
        else:
            for file in finished.files:
                print(file, flush=True)
        if finished.status == "failed":
            print(f"failed: {job.command} {_shown(job)}: {finished.error}", file=sys.stderr, flush=True)

    return tell


def _write_lines(root: str, name: str, plan: Sequence[Planned], tally: Tally) -> None:
    """One line per job that ended, in the order of the plan."""
    from cnnvis_cli.batch.work import row_of

    rows = [row_of(job, tally.ended[job.sidecar]) for job in plan if job.sidecar in tally.ended]
    for row in rows:
        row["sidecar"] = row["sidecar"].removeprefix(f"{root}/")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if is_address(root):
        system, path = filesystem(root)
        system.pipe_file(f"{path}/{name}", text.encode())
        return
    with atomic(Path(root) / name) as file:
        file.write(text.encode())


def _print_table(plan: Sequence[Planned], tally: Tally, seconds: float) -> None:
    """A row per job, or per command where they are many."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    if len(plan) <= _ROWS_SHOWN:
        for head in ("", "command", "result"):
            table.add_column(head, no_wrap=head != "result", overflow="fold")
        for job in plan:
            finished = tally.ended.get(job.sidecar)
            table.add_row(finished.status if finished else "not begun", job.command, _shown(job))
    else:
        for head in ("command", "jobs", "done", "kept", "failed"):
            table.add_column(head, justify="left" if head == "command" else "right")
        for command in dict.fromkeys(job.command for job in plan):
            ended = [tally.ended.get(job.sidecar) for job in plan if job.command == command]
            counts = [sum(f is not None and f.status == status for f in ended) for status in ("done", "kept", "failed")]
            table.add_row(command, str(len(ended)), *map(str, counts))
    Console(stderr=True, soft_wrap=not sys.stderr.isatty(), markup=False, highlight=False).print(table)
    counts_told = ", ".join(f"{tally.count(status)} {status}" for status in ("done", "kept", "failed") if tally.count(status))
    print(f"{_many(len(plan), 'job')}: {counts_told or 'none begun'}, {seconds:.1f} s.", file=sys.stderr)


def _shown(job: Planned) -> str:
    """The sidecar's path as one would type it here."""
    if is_address(job.folder):
        return job.sidecar
    path = Path(job.sidecar)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
