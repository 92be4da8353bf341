"""The most memory that this process held while it loaded and ran a model, by the kernel's count.

Linux keeps the high-water mark of a process's resident memory (VmHWM in proc_pid_status(5)) and
sets it back to what is resident now when asked (``5`` into clear_refs, proc_pid_clear_refs(5)). So
what importing the runtime took for a moment does not hide what the model takes.
"""

from __future__ import annotations

from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class HighWater:
    """Marks from before a model is loaded on, in a process that has loaded no other.

    Where the kernel does not tell, or its mark cannot be set back, there is nothing to say.
    """

    def __init__(self) -> None:
        self._known = True
        self._before = self._set_back()
        self._loading = 0

    def loaded(self) -> None:
        """Say that the model is loaded: what comes from here on is running it."""
        self._loading = self._mark()
        self._set_back()

    def grown(self) -> dict[str, int] | None:
        """By how many bytes the process grew at most: in all, and while it ran the model."""
        running = self._mark()
        if not self._known:
            return None
        peak = max(self._loading, running)
        return {"peak_bytes": peak - self._before, "running_bytes": running - self._before}

    def _set_back(self) -> int:
        """The mark, after it was set back to what is resident now."""
        try:
            _CLEAR.write_text("5", encoding="ascii")
        except OSError:
            self._known = False
        return self._mark()

    def _mark(self) -> int:
        try:
            lines = [line.split() for line in _STATUS.read_text(errors="replace").splitlines()]
            return next(int(line[1]) for line in lines if line[:1] == ["VmHWM:"]) * 1024
        except (OSError, ValueError, IndexError, StopIteration):
            self._known = False
            return 0
