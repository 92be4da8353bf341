"""The operating point that a table speaks of: measurements of different targets never mix."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields

from lutra.errors import NotATableError, TargetMismatchError

_MOST = 1 << 16  # threads, inputs of a batch
_SAME_DEVICE = "Measure on the device, and with the setting, that it was made with"


@dataclass(frozen=True)
class Target:
    """Device, runtime and config; two are equal exactly when their numbers are comparable.

    ``delegate`` is what runs the nodes it can take (how many, each row says); ``options`` are the
    runtime's own that differ from its defaults, as ``name=value,...``.
    """

    device: str
    device_model: str
    architecture: str
    device_cores: str
    runtime: str
    runtime_version: str
    delegate: str
    precision: str
    threads: int
    core_mask: str
    batch: int
    cache_mode: str = "hot"
    options: str = ""

    def to_json(self) -> dict[str, str | int]:
        """The dictionary that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Target:
        """Read a stored target; raises `NotATableError` for missing or wrong fields."""
        expected = {item.name: item.type for item in fields(cls)}
        required = {item.name for item in fields(cls) if item.default is MISSING}
        if not isinstance(document, dict):
            raise NotATableError("it is no object")
        if missing := sorted(required - set(document)):
            raise NotATableError(f"it lacks {missing[0]}")
        if foreign := sorted(set(document) - set(expected)):
            raise NotATableError(f"it has '{foreign[0]:.40}', which no target has")
        for name, value in document.items():
            if type(value).__name__ != (kind := expected[name]):
                raise NotATableError(f"its {name} is no {kind}")
            if isinstance(value, int) and not 1 <= value <= _MOST:
                raise NotATableError(f"its {name} is not from 1 to {_MOST}")
        return cls(**document)

    def require(self, other: Target, where: str, remedy: str = _SAME_DEVICE) -> None:
        """Raise `TargetMismatchError`, naming what differs, unless ``other`` is this target."""
        mine, theirs = self.to_json(), other.to_json()
        differing = [
            f"{name} is '{mine[name]}' in the table but '{theirs[name]}' here"
            for name in mine
            if mine[name] != theirs[name]
        ]
        if differing:
            raise TargetMismatchError(
                f"{where} speaks of another target: {'; '.join(differing)}. {remedy}"
            )

    def summary(self) -> str:
        """One line for people."""
        plural = "s" if self.threads > 1 else ""
        return (
            f"{self.device_model} ({self.device}), {self.runtime} {self.runtime_version},"
            f" ({', '.join(filter(None, [self.delegate, self.options]))}),"
            f" {self.precision}, {self.threads} thread{plural}, batch {self.batch}"
        )
