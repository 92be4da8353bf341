"""The folder that a pipeline works in: what each step made, from which the next run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lutra.errors import ResultError, UsageError
from lutra.files import read_json, write_atomically
from lutra.files.fields import Fields

FORMAT, VERSION = "lutra-shrinking", 1
_FILE = "steps.json"


@dataclass(frozen=True)
class Step:
    """What a step made, and what that was measured at.

    ``name`` says which of several prunings it was, ``prune-1-of-2`` for example.
    ``checkpoint`` is the network's weights and ``model`` the file that is deployed, by their names
    in the folder; ``latency_ms`` was measured, and a process takes ``upper_ms`` at most with 95 %
    confidence. ``predicted_ms`` is the table's, or that of pruning's own table.
    ``top1`` and its interval are in percent of ``images`` validation images, ``download_bytes`` of
    the packed model where it was packed, else of the model.
    """

    name: str
    checkpoint: str
    model: str
    top1: float
    low: float
    high: float
    images: int
    predicted_ms: float
    latency_ms: float
    upper_ms: float
    within_budget: bool
    model_bytes: int
    download_bytes: int
    seconds: float
    digests: Mapping[str, str] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Fields) -> Step:
        """Read a stored one; raises `ResultError`."""
        digests = fields.value("digests")
        if not isinstance(digests, dict):
            fields.refuse("digests", "is no object")
        return cls(
            name=fields.text("name"),
            checkpoint=fields.text("checkpoint"),
            model=fields.text("model"),
            top1=fields.number("top1", 0.0, 100.0),
            low=fields.number("low", 0.0, 100.0),
            high=fields.number("high", 0.0, 100.0),
            images=fields.whole("images"),
            predicted_ms=fields.positive("predicted_ms"),
            latency_ms=fields.positive("latency_ms"),
            upper_ms=fields.positive("upper_ms"),
            within_budget=fields.value("within_budget") is True,
            model_bytes=fields.whole("model_bytes"),
            download_bytes=fields.whole("download_bytes"),
            seconds=fields.number("seconds", 0.0),
            digests={str(name): str(digest) for name, digest in digests.items()},
        )


class Folder:
    """A folder and the steps that it holds, as far as they agree with what is asked now.

    ``settings`` are plain data; raises `UsageError` where the folder was made with others, and
    `ResultError` where its record cannot be read.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = dict(settings)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {path}: {error.strerror}") from error
        self.steps: list[Step] = self._read()

    def _read(self) -> list[Step]:
        record = self.path / _FILE
        if not record.exists():
            return []
        document = read_json(record)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ResultError(f"{record} is no record of `lutra shrink`: name another folder")
        if document.get("version") != VERSION:
            raise ResultError(f"{record} was written by another version of lutra")
        self._require_same(document.get("settings"), record)
        steps = document.get("steps")
        if not isinstance(steps, list):
            raise ResultError(f"{record} is damaged: it has no list of steps")
        return [
            Step.from_json(Fields(step, str(record), f"steps[{number}]."))
            for number, step in enumerate(steps)
        ]

    def _require_same(self, found: object, record: Path) -> None:
        theirs = found if isinstance(found, dict) else {}
        for name, value in self._settings.items():
            if theirs.get(name) != value:
                raise UsageError(
                    f"{record} is of another {name.replace('_', ' ')}"
                    f" ({str(theirs.get(name))[:80]}): name another folder, or remove this one"
                )

    def keep(self, names: Sequence[str]) -> int:
        """Forget what does not begin these steps, or whose files changed; how many are left."""
        kept = 0
        for step, name in zip(self.steps, names, strict=False):
            if step.name != name or any(
                digest_of(self.path / file) != digest for file, digest in step.digests.items()
            ):
                break
            kept += 1
        self.steps = self.steps[:kept]
        return kept

    def add(self, step: Step) -> None:
        """Take up a step and write the record; raises `ResultError`."""
        self.steps.append(step)
        document = {
            "format": FORMAT,
            "version": VERSION,
            "settings": self._settings,
            "steps": [each.to_json() for each in self.steps],
        }
        write_atomically(self.path / _FILE, json.dumps(document, indent=1).encode())


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
