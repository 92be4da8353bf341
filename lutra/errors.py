"""Every error that lutra raises on purpose.

::

    LutraError                      one clear line: what failed, where, what to try
    ├── UsageError                  the caller asked for something that does not exist
    ├── DeviceError                 a device, its worker or its runtime failed
    │   ├── TransientDeviceError    retrying can help (crashed worker, time limit, lost link)
    │   └── PermanentDeviceError    retrying cannot help (runtime missing, model refused)
    ├── TableError                  a latency table cannot be used
    │   ├── NotATableError          the file is no latency table, or is damaged
    │   ├── TableVersionError       written by a newer lutra
    │   ├── TargetMismatchError     it speaks of another device, runtime or config
    │   ├── TableWriteError         read-only, full disk, locked by another run
    │   └── MissingOpError          a prediction needs an op that was never measured
    ├── ModelError                  a model file is damaged, or a model cannot be written as asked
    ├── AccuracyError               an accuracy predictor cannot be loaded or does not apply
    ├── InfeasibleError             no architecture of the space meets the limits
    ├── CheckpointError             a supernet's weights cannot be read, written or used
    ├── DataError                   a set of images cannot be read, or does not fit the network
    ├── TrainingError               training came to no good end
    └── ResultError                 a search result or architecture file cannot be used

Third-party exceptions are turned into one of these where they enter lutra.
"""

from __future__ import annotations


class LutraError(Exception):
    """Base of every error of ours; ``str(error)`` is one line for the user.

    ``exit_code`` is what the command line ends with.

    >>> import lutra
    >>> try:
    ...     lutra.open_device("no-such-device")
    ... except lutra.LutraError as error:
    ...     print(type(error).__name__, error.exit_code)
    UsageError 2
    """

    exit_code = 1


class UsageError(LutraError):
    """An unknown name or an impossible choice, found before anything was done."""

    exit_code = 2


class DeviceError(LutraError):
    """A device, its worker or its runtime failed."""


class TransientDeviceError(DeviceError):
    """The device failed in a way that a retry can mend."""


class PermanentDeviceError(DeviceError):
    """The device failed in a way that no retry mends."""


class TableError(LutraError):
    """A latency table cannot be read, written or applied."""


class NotATableError(TableError):
    """The file is not a latency table, or it is damaged."""


class TableVersionError(TableError):
    """The table was written by a newer version of lutra."""


class TargetMismatchError(TableError):
    """The table's target differs from the one asked for; the message names the fields."""


class TableWriteError(TableError):
    """The table cannot be written: read-only, disk full, or locked."""


class MissingOpError(TableError):
    """A prediction needs ops that the table does not hold."""


class ModelError(LutraError):
    """A model file cannot be used, or a graph cannot be written in the format asked for."""


class AccuracyError(LutraError):
    """An accuracy predictor cannot be loaded, or does not speak of what was asked."""


class CheckpointError(LutraError):
    """A supernet's weights cannot be read, written or used."""


class DataError(LutraError):
    """A set of images cannot be read, or does not fit the network."""


class TrainingError(LutraError):
    """Training came to no good end, such as a loss that is no number."""


class InfeasibleError(LutraError):
    """No architecture of the space meets the limits; the message says what is possible."""


class ResultError(LutraError):
    """A search result or architecture file is damaged or belongs to something else."""
