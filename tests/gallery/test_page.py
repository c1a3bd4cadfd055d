"""The page, as text and in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cnnvis_cli
from cnnvis_cli.errors import UserError
from cnnvis_cli.gallery.collect import item_of
from cnnvis_cli.gallery.page import write_gallery
from tests.conftest import Ran
from tests.support.results import put

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
NASTY = "</script><script>document.title='broken'</script>{{style}}"


def results(folder: Path, many: int = 0) -> None:
    rows = [{"objective": f"channel:conv2_1:{n}", "value": n} for n in range(4)]
    boxes = [[n * 16, 0, n * 16 + 16, 16] for n in range(4)]
    scores = {"mean_value": 1.5, "pictures": rows}
    put(
        folder / "maximize",
        "sheet",
        size=(64, 16),
        scores=scores,
        tiles=boxes,
        trace=[0.0, 1.0, 4.0],
        config={"objective": "channel:conv2_1:0-3"},
        layers=["conv2_1"],
        asked=[[{"kind": "channel", "layer": "conv2_1", "index": n}] for n in range(4)],
    )
    large = {"objective": "class:ant", "steps": 9}
    put(folder / "maximize", "large", size=(900, 700), scores={"value": 0.5}, config=large, classes=["ant"])
    put(folder / "saliency", "map", "saliency", scores={"deletion": 0.25, "note": NASTY})
    for number in range(many):
        put(folder / "many", f"r{number}", scores={"value": number})


def test_the_page_stands_alone(tmp_path: Path) -> None:
    results(tmp_path / "runs")
    page = write_gallery(tmp_path / "runs", tmp_path / "pages" / "look.html", "A <b> {{data}}", quiet=True)
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert "A &lt;b&gt; {{data}}</h1>" in text
    assert "</script><script>document" not in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    for item in data["items"]:
        for link in (item["picture"], item["thumbnail"], item["sidecar"]):
            assert (page.parent / link).is_file()
    large = next(item for item in data["items"] if item["name"] == "large")
    assert large["thumbnail"].startswith("thumbnails/")
    assert large["size"] == [900, 700]


def test_the_command_prints_the_page_and_needs_no_torch(tmp_path: Path, cnnvis: Callable[..., Ran]) -> None:
    results(tmp_path / "runs")
    assert cnnvis("gallery", "-q").files == [Path("runs/index.html")]
    assert cnnvis("gallery", "nowhere").code == 2
    assert cnnvis("gallery", "--out", "page.txt").code == 2
    code = "import sys; import cnnvis_cli.gallery.page, cnnvis_cli.batch.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(cnnvis_cli.__file__).parent.parent)


def data_of(page: Path) -> dict[str, Any]:
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])  # type: ignore[index]


def test_odd_results_are_named_and_the_rest_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(tmp_path)
    put(tmp_path, "whole", size=(700, 30))
    for name in ("no-picture", "huge", "cut"):
        put(tmp_path, name)
    (tmp_path / "no-picture.png").write_bytes(b"\x89PNG nothing")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png", compress_level=1)  # 400 megapixels in few bytes
    (tmp_path / "cut.json").write_text("{")
    (tmp_path / "empty.json").touch()
    (tmp_path / "other.json").write_text("[1]")
    strange = os.fsdecode(b"odd\xff\n<b>\"'")
    shutil.copy(tmp_path / "whole.json", tmp_path / f"{strange}.json")
    monkeypatch.setattr("cnnvis_cli.gallery.page._WORTH", 1)  # in several processes
    data = data_of(write_gallery(tmp_path, tmp_path / "index.html", quiet=True))
    assert sorted(name for name, _ in data["left"]) == ["cut.json", "empty.json", "huge.json", "no-picture.json"]
    assert {"whole", "sheet", "large", "map", "huge", "no-picture"} <= {item["name"] for item in data["items"]}


def test_only_what_is_new_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results(tmp_path)
    first = data_of(write_gallery(tmp_path, tmp_path / "index.html", quiet=True))
    looked: list[Path] = []
    monkeypatch.setattr("cnnvis_cli.gallery.page.item_of", lambda path, page: looked.append(path) or item_of(path, page))
    assert data_of(write_gallery(tmp_path, tmp_path / "index.html", quiet=True)) == first
    assert looked == []
    Image.new("RGB", (800, 800)).save(tmp_path / "maximize" / "large.png")
    (tmp_path / "saliency" / "map.json").unlink()
    again = data_of(write_gallery(tmp_path, tmp_path / "index.html", quiet=True))
    assert [path.name for path in looked] == ["large.json"]
    assert {item["name"]: item["size"] for item in again["items"]} == {"large": [800, 800], "sheet": [64, 16]}


CHECKS = """
const out = {};
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const cards = () => [...document.querySelectorAll(".card b")].map((node) => node.textContent);
out.first = cards();
out.title = document.title;
set({ command: "maximize" });
out.command = cards();
set({ command: "", layer: "conv2_1" });
out.layer = cards();
set({ layer: "", class: "ant" });
out.class = cards();
set({ class: "", sort: "score:mean value", down: "1" });
out.sorted = cards()[0];
set({ ...START, search: "steps=9" });
out.search = cards();
set({ ...START });
document.activeElement.blur();
press("ArrowRight");
press("ArrowRight");
press("Enter");
out.opened = [$("one").open, document.getElementById("one-title").textContent];
out.hash = location.hash;
press("ArrowRight");
out.next = document.getElementById("one-title").textContent;
look(items.find((item) => item.name === "sheet").id);
out.points = document.querySelector("svg polyline").getAttribute("points").split(" ").length;
out.line = document.querySelector("pre").textContent;
$("one").close();
mark(0);
mark(1);
compare();
const differences = [...$("two").querySelectorAll(".differences tr")].map((row) => row.cells[0].textContent);
out.compared = [$("two").open, $("two").querySelectorAll("img").length, differences];
$("two").close();
set({ view: "atlas" });
out.atlas = [...document.querySelectorAll(".tile")].map((node) => node.style.backgroundPosition);
set({ ...START });
out.wide = document.documentElement.scrollWidth <= innerWidth;
out.errors = window.problems;
"""


def in_browser(page: Path, tmp_path: Path, checks: str, width: int = 1200) -> dict[str, Any]:
    """Run `checks` in the page, and give back what they put into `out`."""
    catch = "window.problems = []; addEventListener('error', (e) => problems.push(e.message || e.target.src), true);"
    tell = (
        f"addEventListener('load', () => {{ try {{ {checks} document.body.textContent = 'OUT' + JSON.stringify(out) + 'END'; }}"
    )
    tell += " catch (error) { document.body.textContent = 'OUT' + JSON.stringify({ raised: error.stack }) + 'END'; } });"
    text = page.read_text().replace("<head>", f"<head><script>{catch}</script>", 1)
    copy = page.with_name("checked.html")
    copy.write_text(text.replace("</body>", f"<script>{tell}</script></body>"))
    options = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [
        str(BROWSER),
        *options.split(),
        "--disable-sync",
        profile,
        f"--window-size={width},900",
        "--virtual-time-budget=3000",
    ]
    ran = subprocess.run([*command, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    found = re.search(r"OUT(\{.*\})END", ran.stdout, re.DOTALL)
    assert found, ran.stdout[-2000:]
    out = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert "raised" not in out, out
    return out


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(tmp_path: Path) -> None:
    results(tmp_path / "runs")
    page = write_gallery(tmp_path / "runs", tmp_path / "runs" / "index.html", "Results", quiet=True)
    out = in_browser(page, tmp_path, CHECKS)
    assert out["errors"] == []
    assert out["title"] == "Results · cnnvis"
    assert out["first"] == ["large", "sheet", "map"]
    assert (out["command"], out["layer"], out["class"]) == (["large", "sheet"], ["sheet"], ["large"])
    assert (out["sorted"], out["search"]) == ("sheet", ["large"])
    assert out["opened"] == [True, "sheet"]
    assert "open=maximize%2Fsheet.json" in out["hash"]
    assert out["next"] == "map"
    assert out["points"] == 3
    assert out["line"] == "cnnvis maximize name=sheet objective=channel:conv2_1:0-3"
    assert out["compared"][:2] == [True, 2]
    assert {"name", "objective", "steps"} <= set(out["compared"][2])
    assert out["atlas"][0].startswith("0%")
    assert len(out["atlas"]) == 4


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_thousands_of_results_on_a_telephone(tmp_path: Path) -> None:
    results(tmp_path / "runs", many=2000)
    page = write_gallery(tmp_path / "runs", tmp_path / "runs" / "index.html", quiet=True)
    checks = "const out = {}; const began = performance.now(); set({ search: 'r19' }); out.found = shown.length;"
    checks += "set({ ...START }); out.cards = document.querySelectorAll('.card').length; out.ms = performance.now() - began;"
    checks += "out.lazy = [...document.images].every((image) => image.loading === 'lazy'); out.errors = problems;"
    checks += "out.wide = document.documentElement.scrollWidth <= innerWidth;"
    out = in_browser(page, tmp_path, checks, width=500)
    assert out["errors"] == []
    assert out["found"] == 111
    assert out["cards"] < 500
    assert out["lazy"]
    assert out["wide"]
    assert page.stat().st_size < 4_000_000


def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path) -> None:
    results(tmp_path / "runs")
    assert write_gallery(tmp_path / "runs", tmp_path / "new" / "pages", quiet=True) == tmp_path / "new" / "pages" / "index.html"
    (tmp_path / "taken").write_text("")
    for wrong in ("taken", "page.pdf"):
        with pytest.raises(UserError, match="must be a folder"):
            write_gallery(tmp_path / "runs", tmp_path / wrong, quiet=True)
