"""What covered windows and baselines are filled with, as one writes it on the command line."""

from __future__ import annotations

from PIL import ImageColor

from cnnvis_cli.engine.attribution.occlusion import FILLS
from cnnvis_cli.errors import UserError, did_you_mean


def parse_fill(text: str, key: str = "fill") -> str | tuple[float, float, float]:
    """A fill's name, or a colour as `red`, `#ff8000`, or three numbers in [0, 1] with commas. Raises UserError."""
    if text in FILLS:
        return text
    parts = text.split(",")
    try:
        numbers = [float(part) for part in parts] if len(parts) == 3 else [v / 255 for v in ImageColor.getrgb(text)[:3]]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(0 <= number <= 1 for number in numbers):
        hint = did_you_mean(text, FILLS)
        raise UserError(f"{key}={text} is none of {', '.join(FILLS)}, nor a colour such as red or 1,0.5,0.{hint}")
    return numbers[0], numbers[1], numbers[2]
