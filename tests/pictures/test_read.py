"""Pictures of every kind: read rightly, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from cnnvis_cli.errors import UserError
from cnnvis_cli.pictures.read import SAMPLES, PictureFile, find_pictures, open_rgb, read, to_square, to_tensor


def ramp(height: int = 24, width: int = 40) -> Image.Image:
    """Red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // (width - 1), y * 255 // (height - 1), 0 * x + 60], axis=2).astype(np.uint8))


def read_file(path: Path) -> Tensor:
    return read(PictureFile(path.stem, path))


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
        PictureFile("gone", tmp_path / "gone.png").digest()


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


def test_colours_of_another_profile_are_converted(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), (200, 100, 50))
    for name, profile in (("plain", None), ("srgb", "sRGB"), ("lab", "LAB")):
        given = b"" if profile is None else ImageCms.ImageCmsProfile(ImageCms.createProfile(profile)).tobytes()
        picture.save(tmp_path / f"{name}.png", icc_profile=given)
        assert open_rgb(PictureFile(name, tmp_path / f"{name}.png")).getpixel((0, 0)) == (200, 100, 50)
    picture.save(tmp_path / "gamma.png", icc_profile=_gamma_one())
    lightest = open_rgb(PictureFile("gamma", tmp_path / "gamma.png")).getpixel((0, 0))
    assert all(made > given for made, given in zip(lightest, (200, 100, 50), strict=True))  # linear values shown as sRGB


def _gamma_one() -> bytes:
    """sRGB's profile with straight tone curves: values are light."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * number
        if profile[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            start = int.from_bytes(profile[entry + 4 : entry + 8], "big")
            profile[start : start + 14] = b"curv\0\0\0\0\0\0\0\1\1\0"  # one number: a gamma of 1
            profile[entry + 8 : entry + 12] = (14).to_bytes(4, "big")
    return bytes(profile).replace(b"\0s\0R\0G\0B", b"\0o\0w\0n\0 ")


def test_a_phones_second_frame_is_passed_over(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert open_rgb(PictureFile("phone", tmp_path / "phone.jpg")).getpixel((4, 4))[0] > 200


@pytest.mark.parametrize("size", [(300, 1), (1, 300), (17, 1)])
def test_a_strip_is_refused_by_name(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size).save(tmp_path / "strip.png")
    with pytest.raises(UserError, match=r"strip\.png has .* 16 times"):
        open_rgb(PictureFile("strip", tmp_path / "strip.png"))


def test_hidden_files_are_passed_over_and_links_followed_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for place in ("a/1.png", "a/.2.png", ".hidden/3.png", "__MACOSX/4.png", "b/5.JFIF", "b/6.nef"):
        (data / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(data / place, "PNG")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (8, 8)).save(elsewhere / "7.png")
    (data / "c").symlink_to(elsewhere)
    (data / "round").symlink_to(data)
    assert [source.path.name for source in find_pictures(str(data))] == ["1.png", "5.JFIF", "6.nef", "7.png"]
    assert [source.label for source in find_pictures(str(data))] == ["a", "b", "b", "c"]
    assert [source.path.name for source in find_pictures(f"{data}/*/*.png")] == ["1.png", "7.png"]
    assert {source.path.name for source in find_pictures(f"{data}/*")} == {"1.png", "5.JFIF", "6.nef", "7.png"}
    with pytest.raises(UserError, match=r"nef is not a kind of picture"):
        open_rgb(PictureFile("6", data / "b" / "6.nef"))


@pytest.mark.parametrize("name", ["a, b.png", "shot #1.png", "a: b.png", "~x.png", "-x.png", "[1].png", "a*.png"])
def test_what_exists_as_it_stands_is_that(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [source.path.name for source in find_pictures(name)] == [name]


def test_names_that_are_no_utf8_can_be_shown(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fl\xe4che.png"))
    Image.new("RGB", (8, 8)).save(path)
    source = find_pictures(str(path))[0]
    source.name.encode()
    assert read(source).shape == (1, 3, 8, 8)
