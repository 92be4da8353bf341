"""The operating point that a table speaks of: measurements of different targets never mix."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields

from lutra.errors import NotATableError, TargetMismatchError

_MOST = 1 << 16  # threads, inputs of a batch
IMPORTED = "imported"
"""The ``device`` of numbers that others measured, nobody knows where."""
UNKNOWN = "unknown"
_SAME_DEVICE = "Measure on the device, and with the setting, that it was made with"


@dataclass(frozen=True)
class Target:
    """Device, runtime and config; two are equal exactly when their numbers are comparable.

    ``delegate`` is what runs the nodes it can take (how many, each row says); ``options`` are the
    runtime's own that differ from its defaults, as ``name=value,...``. Of an imported table
    (`of_import`) only what its user says is known; threads and batch are 0 there.
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

    @classmethod
    def of_import(cls, device_model: str | None = None, runtime: str | None = None) -> Target:
        """The target of numbers from a file of others, which says neither device nor runtime."""
        return cls(
            device=IMPORTED,
            device_model=device_model or UNKNOWN,
            architecture=UNKNOWN,
            device_cores=UNKNOWN,
            runtime=runtime or UNKNOWN,
            runtime_version=UNKNOWN,
            delegate=UNKNOWN,
            precision=UNKNOWN,
            threads=0,
            core_mask="",
            batch=0,
            cache_mode=UNKNOWN,
        )

    @property
    def is_imported(self) -> bool:
        """Whether the numbers are from a file of others."""
        return self.device == IMPORTED

    def require_measurable(self, where: str) -> None:
        """Raise `TargetMismatchError` where nothing that is measured could be compared with it."""
        if self.is_imported:
            raise TargetMismatchError(
                f"{where} was imported: which device, runtime and setting its numbers are of is not"
                " known, so nothing can be measured that compares with them; `lutra profile DEVICE"
                " -o FILE` makes a table of a device of yours"
            )

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
        least = 0 if document.get("device") == IMPORTED else 1
        for name, value in document.items():
            if type(value).__name__ != (kind := expected[name]):
                raise NotATableError(f"its {name} is no {kind}")
            if isinstance(value, int) and not least <= value <= _MOST:
                raise NotATableError(f"its {name} is not from {least} to {_MOST}")
        return cls(**document)

    def require(self, other: Target, where: str, remedy: str = _SAME_DEVICE) -> None:
        """Raise `TargetMismatchError`, naming what differs, unless ``other`` is this target."""
        differing = [
            f"{name} is '{mine}' in the table but '{theirs}' here"
            for name, (mine, theirs) in self.differences(other).items()
        ]
        if differing:
            raise TargetMismatchError(
                f"{where} speaks of another target: {'; '.join(differing)}. {remedy}"
            )

    def differences(self, other: Target) -> dict[str, tuple[str | int, str | int]]:
        """What differs, by the field's name: this target's value and the other's."""
        theirs = other.to_json()
        return {
            name: (mine, theirs[name])
            for name, mine in self.to_json().items()
            if mine != theirs[name]
        }

    def summary(self) -> str:
        """One line for people."""
        if self.is_imported:
            return (
                f"imported: device {self.device_model}, runtime {self.runtime};"
                " precision, threads and batch are not known"
            )
        plural = "s" if self.threads > 1 else ""
        return (
            f"{self.device_model} ({self.device}), {self.runtime} {self.runtime_version},"
            f" ({', '.join(filter(None, [self.delegate, self.options]))}),"
            f" {self.precision}, {self.threads} thread{plural}, batch {self.batch}"
        )
