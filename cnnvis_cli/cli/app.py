"""The command line: `cnnvis COMMAND [KEY=VALUE ...]`. Registers commands, holds the options that all share, sets exit codes.

Exit 0: done. 1: the run failed. 2: a mistake in the command line, a config or an input. 130: interrupted.
Never imports torch: what does is imported inside the functions.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cnnvis_cli import __version__
from cnnvis_cli.cli.streams import open_streams, silence_stdout
from cnnvis_cli.errors import ChangedError, Interrupted, RunError, UserError, in_words
from cnnvis_cli.files.atomic import local_folder
from cnnvis_cli.registry import COMMANDS, config_class

app = typer.Typer(
    name="cnnvis",
    help="See what a convolutional network has learned.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
configs_app = typer.Typer(help="The bundled example configs: list, show, copy, check.", no_args_is_help=True)
app.add_typer(configs_app, name="configs", rich_help_panel="About")

Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings; the keys are listed below.")]
ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="A YAML file, a bundled example's name, or a result's JSON.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", envvar="CNNVIS_DEVICE")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random choice.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results. [default: runs/COMMAND]", envvar="CNNVIS_OUT")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result of the same name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and print the resolved config; do nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no scores on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines instead of paths on stdout.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never download weights.", envvar="CNNVIS_OFFLINE")]
TrustCode = Annotated[bool, typer.Option("--trust-code", help="Allow model=package.module:factory to run your code.")]


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into one clear line each on stderr and the exit code that fits."""

    def say(message: str) -> None:
        print(f"cnnvis: {message}", file=sys.stderr, flush=True)

    try:
        yield
    except BrokenPipeError:  # the reader of stdout has left, e.g. `| head`
        silence_stdout()
        raise typer.Exit(1) from None
    except (UserError, ChangedError, RunError, Interrupted, KeyboardInterrupt) as error:
        for problem in in_words(error):
            say(problem)
        if os.environ.get("CNNVIS_DEBUG"):
            raise
        asked_wrongly = isinstance(error, UserError | ChangedError)
        raise typer.Exit(2 if asked_wrongly else 1 if isinstance(error, RunError) else 130) from None


class _TechniqueCommand(TyperCommand):
    """A command whose `--help` also lists the keys of its config, with defaults, straight from the schema."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in args:
            name, _, value = word.partition("=")
            key = name.lstrip("-").replace("-", "_")
            if name.startswith("--") and name not in options and key in config_class(str(self.name)).model_fields:
                raise typer.BadParameter(f"{name} is no option. Settings have no dashes: {key}={value or '...'}", ctx)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super().format_help(ctx, formatter)
        from cnnvis_cli.cli.help import key_lines

        lines = ["", "Keys (KEY=VALUE, or in the YAML file):", *key_lines(config_class(str(self.name)))]
        formatter.write("\n".join(lines) + "\n")


def _technique(command: str) -> Callable[..., None]:
    def run(
        settings: Settings = None,
        config: ConfigOption = None,
        device: Device = "auto",
        seed: Seed = None,
        out: Out = None,
        overwrite: Overwrite = False,
        dry_run: DryRun = False,
        quiet: Quiet = False,
        as_json: Json = False,
        offline: Offline = False,
        trust_code: TrustCode = False,
    ) -> None:
        began = time.perf_counter()
        from cnnvis_cli.config.load import load_config

        with exit_codes():
            values = load_config(config_class(command), command, config=config, settings=settings or [], flags={"seed": seed})
            folder = local_folder(out or Path("runs") / command)
            if dry_run:
                from cnnvis_cli.cli.help import config_yaml
                from cnnvis_cli.jobs.check import check_all

                check_all(values, device, offline=offline, trust_code=trust_code, quiet=True)
                print(config_yaml(command, values), end="")
                return
            from cnnvis_cli.jobs.report import report
            from cnnvis_cli.jobs.start import run_or_keep

            flags = {"quiet": quiet, "overwrite": overwrite, "offline": offline, "trust_code": trust_code}
            report(run_or_keep(command, values, folder, device=device, began=began, **flags), as_json=as_json, quiet=quiet)

    return run


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary, cls=_TechniqueCommand, rich_help_panel="Techniques")(_technique(_name))


@app.command("run", rich_help_panel="Many at once")
def run_command(
    file: Annotated[str, typer.Argument(metavar="JOBS.yaml", help="A jobs file, or a bundled example's name (jobs/all).")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For every job that has the key.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one per device]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each. [default: the cores shared out]")] = None,
    devices: Annotated[str, typer.Option(help="Separated by commas, e.g. cuda:0,cuda:1.", envvar="CNNVIS_DEVICE")] = "auto",
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only the I-th of N parts, I from 1.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray (a cluster; $RAY_ADDRESS).")] = "local",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Begin nothing new after a failure.")] = False,
    out: Annotated[
        str | None, typer.Option(help="Folder, or fsspec address. [default: the file's `out`, or runs/FILE]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Allow more than 10,000 jobs.")] = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
    offline: Offline = False,
    trust_code: TrustCode = False,
) -> None:
    """Run many jobs from one YAML file; what is done already is kept."""
    from cnnvis_cli.batch.run import Options, run_jobs, show_plan

    with exit_codes():
        chosen = Options(
            out=out,
            workers=workers,
            threads=threads,
            devices=[device.strip() for device in devices.split(",")],
            engine=engine,
            shard=shard,
            fail_fast=fail_fast,
            overwrite=overwrite,
            quiet=quiet,
            as_json=as_json,
            offline=offline,
            trust_code=trust_code,
            yes=yes,
        )
        (show_plan if dry_run else run_jobs)(file, settings or [], chosen)


@app.command(rich_help_panel="Many at once")
def gallery(
    folder: Annotated[Path, typer.Argument(help="A folder of results.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="The page. [default: FOLDER/index.html]")] = None,
    title: Annotated[str, typer.Option(help="Its heading. [default: the folder's name]")] = "",
    quiet: Quiet = False,
) -> None:
    """Make one page of all results in a folder: look, filter, compare, repeat."""
    from cnnvis_cli.gallery.page import write_gallery

    with exit_codes():
        print(write_gallery(folder, local_folder(out or folder / "index.html"), title, quiet=quiet))


@app.command(rich_help_panel="About")
def models() -> None:
    """List the networks that can be named."""
    with exit_codes():
        from cnnvis_cli.cli.about import print_models

        print_models()


@app.command(rich_help_panel="About")
def layers(
    model: Annotated[str, typer.Argument(help="A network, as in model=...")],
    settings: Settings = None,
    offline: Offline = False,
    trust_code: TrustCode = False,
) -> None:
    """List a network's layers: name, kind, channels, output size, receptive field."""
    with exit_codes():
        from cnnvis_cli.cli.about import print_layers

        print_layers(model, settings or [], offline=offline, trust_code=trust_code)


@app.command(rich_help_panel="About")
def doctor() -> None:
    """Say what this installation and machine have: versions, devices, threads, caches."""
    with exit_codes():
        from cnnvis_cli.cli.about import print_doctor

        print_doctor()


@configs_app.command("list")
def configs_list() -> None:
    """Names and first lines of the bundled examples."""
    with exit_codes():
        from cnnvis_cli.cli.examples import print_configs

        print_configs()


@configs_app.command("show")
def configs_show(name: Annotated[str, typer.Argument(help="COMMAND/NAME")]) -> None:
    """Print one."""
    with exit_codes():
        from cnnvis_cli.config.load import find_config, read_text

        print(read_text(find_config(name, "")), end="")


@configs_app.command("copy")
def configs_copy(
    name: Annotated[str, typer.Argument(help="COMMAND/NAME")],
    target: Annotated[Path | None, typer.Argument(help="File or folder; default: here.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy one to a file of your own, to change it."""
    with exit_codes():
        from cnnvis_cli.cli.examples import copy_config

        print(copy_config(name, target or Path(), overwrite))


@configs_app.command("check")
def configs_check(
    files: Annotated[list[str] | None, typer.Argument(help="YAML files or names; default: all bundled ones.")] = None,
    command: Annotated[
        str | None, typer.Option(help="The command they are for, where neither file nor folder says it.")
    ] = None,
) -> None:
    """Check configs without running them; all errors at once."""
    with exit_codes():
        from cnnvis_cli.cli.examples import check_configs

        check_configs(files or [], command)


def _version(value: bool) -> None:
    if value:
        print(f"cnnvis {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """See what a convolutional network has learned."""


def main(arguments: list[str] | None = None) -> Any:
    """Read the command line (`arguments`, or the process's own) and do what it says."""
    open_streams()
    try:
        return app(args=arguments, prog_name="cnnvis")
    except RunError as error:  # of what is printed outside of any command, as `--help`
        print(f"cnnvis: {error}", file=sys.stderr)
        sys.exit(1)
