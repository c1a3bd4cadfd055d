"""The walls of the house, read off the syntax trees: who may import whom, what each room may know, how large things may be."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnnvis_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
# The only two places where an optimizer takes a step.
LOOPS = {"engine/optim/loop.py", "engine/learning/loop.py"}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, by its full name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def within(room: str) -> list[Path]:
    found = [path for path in FILES if name_of(path).startswith(f"{room}/")]
    assert found, f"no files in {room}: this test checks nothing"
    return found


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_the_engine_knows_nothing_of_what_stands_around_it() -> None:
    for path in within("engine"):
        assert not packages(path) & {"typer", "rich", "yaml", "pydantic", "PIL", "click"}, name_of(path)
        outside = [n for n in imports(path) if n.startswith("cnnvis_cli.") and not n.startswith("cnnvis_cli.engine")]
        assert not outside, f"{name_of(path)} imports {outside}"


def test_the_engine_does_not_speak_of_the_command_line() -> None:
    for path in within("engine"):
        documented = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in documented:
                assert not re.search(r"(^|\s)--[a-z]|\bcnnvis [a-z]", node.value), f"{name_of(path)}: {node.value!r}"


def test_configs_and_the_shell_start_without_torch() -> None:
    for path in [*within("config"), *within("files")]:
        assert "torch" not in packages(path), name_of(path)


def test_commands_know_nothing_of_autograd() -> None:
    for path in within("commands"):
        used = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        assert not used & {"autograd", "requires_grad_", "backward", "enable_grad"}, name_of(path)
        assert not any("autograd" in name for name in imports(path)), name_of(path)


def test_two_loops_step_an_optimizer_and_no_third() -> None:
    stepping = set()
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step":
                owner = ast.unparse(node.func.value)
                if "optimizer" in owner:
                    stepping.add(name_of(path))
    assert "engine/optim/loop.py" in stepping
    assert stepping <= LOOPS


def rooms(inside: str = "") -> dict[str, set[str]]:
    """From each room to those it imports: the folders of the package, or of one of its folders, and the loose modules."""
    prefix = f"cnnvis_cli.{inside.replace('/', '.')}." if inside else "cnnvis_cli."
    graph: dict[str, set[str]] = defaultdict(set)
    for path in within(inside) if inside else FILES:
        own = name_of(path).removeprefix(f"{inside}/" if inside else "").removesuffix(".py").split("/")[0]
        if own in ("__init__", "__main__"):
            continue
        for name in imports(path):
            other = name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else own
            exists = any((PACKAGE / inside / f"{other}{end}").exists() for end in ("", ".py"))
            if other != own and exists:
                graph[own].add(other)
    assert graph
    return graph


def modules() -> dict[str, set[str]]:
    """From each file to those that it imports, wherever in it and for whatever reason."""
    known = {"cnnvis_cli." + name_of(path).removesuffix(".py").replace("/", "."): name_of(path) for path in FILES}
    graph = {name_of(path): {known[name] for name in imports(path) if name in known} - {name_of(path)} for path in FILES}
    assert sum(map(len, graph.values())) > 300
    return graph


@pytest.mark.parametrize("inside", ["", "engine", "files"])
def test_arrows_between_rooms_and_files_point_one_way(inside: str) -> None:
    graph = modules() if inside == "files" else rooms(inside)
    done: set[str] = set()

    def visit(room: str, path: tuple[str, ...]) -> None:
        assert room not in path, f"a circle: {' -> '.join([*path[path.index(room) :], room])}"
        if room not in done:
            for other in sorted(graph.get(room, ())):
                visit(other, (*path, room))
            done.add(room)

    for room in sorted(graph):
        visit(room, ())


def test_rooms_files_and_functions_stay_small() -> None:
    folders: dict[Path, int] = defaultdict(int)
    for path in FILES:
        folders[path.parent] += path.name != "__init__.py"
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 350, f"{name_of(path)} has {lines} lines"
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                count = (node.end_lineno or 0) - node.lineno + 1
                assert count <= 60, f"{name_of(path)}: {node.name} has {count} lines"
    large = {name_of(folder): count for folder, count in folders.items() if count > 15}
    assert set(large) <= {"commands", "config"}, large
    loose = [path.name for path in PACKAGE.glob("*.py")]
    assert len(loose) <= 4, loose


def test_a_job_is_its_parts() -> None:
    classes = {node.name: node for node in tree_of(PACKAGE / "jobs/job.py").body if isinstance(node, ast.ClassDef)}
    job = classes["Job"]
    assert (job.end_lineno or 0) - job.lineno < 120
