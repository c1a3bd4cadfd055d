"""The one store of what an interrupted run needs to go on: `NAME.state` beside the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnvis_cli.errors import ChangedError, UserError
from cnnvis_cli.files.atomic import clear
from cnnvis_cli.jobs.record import MOST_HASHES
from cnnvis_cli.pictures.write import read_state, write_state

_PICTURE = "picture "


class Resume:
    """Values by key that survive an interruption. A state serves the config (`digest`), the weights and the pictures it was
    made with.

    All values are written together at every `save`, so that none is lost to another's saving.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self._digest = path, digest
        self._weights: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def load(self) -> str | None:
        """Take up what an interrupted run left. Where that cannot serve this run it is kept aside, and the answer says why."""
        if not self.path.exists():
            return None
        state = read_state(self.path)
        if isinstance(state, dict) and state.get("hash") == self._digest and isinstance(state.get("values"), dict):
            self._before, self.values = dict(state.get("weights", {})), state["values"]
            return None
        kind = "is damaged" if state is None else "belongs to another config or version"
        aside = self.path.with_name(f"{self.path.name}.bad")
        self.path.replace(aside)
        return f"the state {self.path} {kind}; it is kept as {aside.name}, and this run begins anew"

    def rests_on(self, weights: str, digest: str) -> None:
        """Note the SHA-256 of weights. Raises UserError where the state to go on from was computed with others."""
        self._weights[weights] = digest
        if self._before.get(weights, digest) != digest:
            raise UserError(
                f"{self.path} was computed with other weights of {weights.rstrip('@')} than there are now. "
                "Put those back to go on from it, or begin anew with --overwrite."
            )

    def shows(self, picture: str, digest: str) -> None:
        """Note the SHA-256 of a picture (of the first thousands). ChangedError where the state was computed with another."""
        key = f"{_PICTURE}{picture}"
        if len(self._weights) < MOST_HASHES:
            self._weights[key] = digest
        if self._before.get(key, digest) != digest:
            raise ChangedError(
                f"{self.path} was computed with another picture {picture} than there is now. "
                "Put that back to go on from it, or begin anew with --overwrite."
            )

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def keep(self, key: str, value: Any) -> Any:
        """Hold a value for the next `save`, and give it back."""
        self.values[key] = value
        return value

    def save(self) -> None:
        write_state(self.path, {"hash": self._digest, "weights": {**self._before, **self._weights}, "values": self.values})

    def clear(self) -> None:
        clear(self.path)
