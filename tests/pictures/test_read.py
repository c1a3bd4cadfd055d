"""Pictures of every kind: read rightly, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.read import SAMPLES, Source, find_pictures, read, to_square, to_tensor


def ramp(height: int = 24, width: int = 40) -> Image.Image:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 0 * x + 60], axis=2).astype(np.uint8))


def read_file(path: Path) -> Tensor:
    return read(Source(path.stem, path))


def plain(picture: Image.Image) -> Tensor:
    return to_tensor(picture)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".webp", ".jpg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    ramp().save(path, **({"quality": 95} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}))
    tolerance = 0.06 if suffix == ".jpg" else 0
    torch.testing.assert_close(read_file(path), plain(ramp()), atol=tolerance, rtol=0)


def test_palette(tmp_path: Path) -> None:
    picture = ramp().quantize(16)
    picture.save(tmp_path / "a.png")
    torch.testing.assert_close(read_file(tmp_path / "a.png"), plain(picture.convert("RGB")))


def test_palette_with_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 2), 1)
    picture.save(tmp_path / "a.gif", transparency=0)
    values = (read_file(tmp_path / "a.gif")[0] * 255).round()
    assert values[:, 0, 0].tolist() == [255, 255, 255]
    assert values[:, 2, 1].tolist() == [200, 100, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "CMYK"])
def test_modes(tmp_path: Path, mode: str) -> None:
    picture = ramp().convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    torch.testing.assert_close(read_file(path), plain(picture.convert("RGB")), atol=0.06 if mode == "CMYK" else 0, rtol=0)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    picture = ramp().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 51))
    picture.save(tmp_path / "a.png")
    torch.testing.assert_close(read_file(tmp_path / "a.png"), 0.2 * plain(ramp()) + 0.8, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("top", [65535, 200])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, top: int) -> None:
    """A dark one too: its values lie all below 256."""
    values = np.linspace(0, top, 24 * 40).reshape(24, 40).astype(np.uint16)
    for suffix in (".png", ".tif"):
        Image.fromarray(values).save(tmp_path / f"a{suffix}")
        found = read_file(tmp_path / f"a{suffix}")
        torch.testing.assert_close(found[0, 0].double(), torch.from_numpy(values / 65535.0), atol=0.5 / 255 + 1e-6, rtol=0)


def test_numbers_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).random((8, 8), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="8 or 16 bits"):
        read_file(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(tmp_path: Path, orientation: int) -> None:
    """The file is stored as a camera held so would store it; what is read stands upright."""
    stored = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]  # fmt: skip
    picture = ramp()
    for turn in stored:
        picture = picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    torch.testing.assert_close(read_file(tmp_path / "a.png"), plain(ramp()))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    ramp().save(path, save_all=True, append_images=[ramp().rotate(180)])
    with pytest.raises(UserError, match="2 frames"):
        read_file(path)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif", ".ppm"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    for share in (0.0, 0.01, 0.1, 0.5, 0.8):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError, match=r"a\.") as error:
            read_file(path)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".bmp", ".tif"])
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    ramp(16, 16).save(path)
    data, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            picture = read_file(path)
        except UserError:
            continue
        assert picture.ndim == 4
        assert picture.shape[1] == 3


def test_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(UserError, match="not a picture"):
        read_file(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot read"):
        read_file(tmp_path / "gone.png")
    with pytest.raises(UserError, match="cannot read"):
        Source("gone", tmp_path / "gone.png").digest()


def test_finding(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.PNG", "a/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        ramp().save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    found = find_pictures(str(tmp_path))
    assert [(source.label, source.name) for source in found] == [("a", "1"), ("a", "3"), ("b", "2")]
    assert [s.name for s in find_pictures(str(tmp_path / "*" / "[12].*"))] == ["1", "2"]
    assert [s.name for s in find_pictures([str(tmp_path / "b" / "2.png"), "sample:brick"])] == ["2", "brick"]
    everything = find_pictures("sample:*")
    assert [source.name for source in everything] == list(SAMPLES)
    assert {source.label for source in everything} == {""}


@pytest.mark.parametrize("what", ["nothing.png", "no/*.png", "sample:chelsey", "chelsea", "."])
def test_finding_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        find_pictures(what)


def test_square_keeps_the_middle() -> None:
    picture = torch.zeros(1, 3, 40, 80)
    picture[..., 20, 40] = 1
    square = to_square(picture, 20, 20)
    assert square.shape == (1, 3, 20, 20)
    assert square[0, 0].argmax() == 10 * 20 + 10
