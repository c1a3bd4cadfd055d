"""Files that `cnnvis train` writes for another network: found by name, opened by their cards, checked for whose they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnvis_cli.errors import UserError, did_you_mean
from cnnvis_cli.files.bundled import assets_folder
from cnnvis_cli.networks.spec import card_of

LARGEST_SHAPE = 65536  # channels, classes: no file comes near


def find_learned(kind: str, name: str, model: str, bundled: Mapping[str, str]) -> Path:
    """The path of a file of this kind: by path, or bundled. `bundled`: from a network's name to its file's, for where there is
    no name."""
    name = name or bundled.get(model, "")
    if not name:
        raise UserError(
            f"there is no bundled {kind} for {model}: {kind}=FILE, from `cnnvis train kind={kind} model={model} images=FOLDER`."
        )
    if name in bundled.values():
        return assets_folder() / f"{name}.safetensors"
    path = Path(name).expanduser()
    if not path.is_file():
        names = list(bundled.values())
        raise UserError(
            f"no {kind} '{name}': not a file, nor one of the bundled ({', '.join(names) or 'none'}).{did_you_mean(name, names)}"
        )
    return path


def read_card(path: Path, kind: str) -> dict[str, Any]:
    """Its card as values. UserError where the file holds something else."""
    card = card_of(path)
    if card.get("kind") != kind:
        what = f"a {card['kind']}" if "kind" in card else "something else"
        raise UserError(f"{path} holds {what}, not a {kind}: `cnnvis train kind={kind}` writes such files.")
    try:
        return {key: json.loads(value) if value[:1] in '[{"' else value for key, value in card.items()}
    except (ValueError, RecursionError):
        raise damaged(path) from None


def damaged(path: Path) -> UserError:
    return UserError(f"{path} has a damaged card: its shape or its levels make no sense.")


def check_encoder(name: str, card: Mapping[str, Any], model: str, sha256: str) -> None:
    """UserError where the file was trained for another network than that with this hash."""
    known = card.get("encoder")
    known = known if isinstance(known, dict) else {}
    if known.get("sha256") != sha256:
        raise UserError(
            f"{name} was trained for {known.get('model')} {str(known.get('sha256'))[:12]}, and {model} is {sha256[:12]}: "
            f"its codes mean something else. Name that network, or train one for this."
        )
