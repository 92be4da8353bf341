"""What `lutra.devices.nvml` reports of a GPU, here or on another machine, in an adapter's terms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lutra.devices.base import DeviceInfo, Health
from lutra.devices.nvml import slowed
from lutra.errors import PermanentDeviceError
from lutra.text import last_words

_MIB = 1 << 20


@dataclass(frozen=True)
class GpuReport:
    """``facts`` and ``state`` as `lutra.devices.nvml.Gpu` gives them."""

    facts: dict[str, Any]
    state: dict[str, Any]

    @classmethod
    def parse(cls, text: str, spec: str) -> GpuReport:
        """What ``nvml.py N`` printed; raises `PermanentDeviceError` when it says why not."""
        try:
            answer = json.loads(text.splitlines()[-1])
            if "error" in answer:
                raise PermanentDeviceError(f"{spec}: {answer['error']}")
            report = cls(dict(answer["facts"]), dict(answer["state"]))
            report.info(spec, "", "")
            report.health(None)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            said = last_words(text)
            raise PermanentDeviceError(f"{spec}: the GPU cannot be read: {said}") from error
        return report

    def info(self, spec: str, host: str, os: str) -> DeviceInfo:
        """What the device is. The host is part of it: it launches the work."""
        facts = self.facts
        return DeviceInfo(
            spec=spec,
            kind="cuda",
            model=f"{facts['name']} on {host}",
            architecture=f"compute {facts['compute_capability']}",
            os=f"{os}, driver {facts['driver']}",
            cores=int(facts["cores"] or 0),
            memory_bytes=int(facts["memory_bytes"] or 0),
        )

    def health(self, load_1m: float | None) -> Health:
        """Its state when it was read."""
        state = self.state
        return Health(
            load_1m=load_1m,
            clock_mhz=state["clock_mhz"],
            temperature_c=state["temperature_c"],
            throttled=slowed(state["throttle_reasons"]),
            power_w=state["power_w"],
            throttle_reasons=tuple(map(str, state["throttle_reasons"])),
            other_processes=tuple(_process(item) for item in state["processes"]),
        )

    def advice(self, load_1m: float | None, host_cores: int) -> tuple[str, ...]:
        """What to do before measuring on it, and on its host, which launches the work."""
        found = []
        if load_1m is not None and load_1m > 0.5 * host_cores:
            found.append(f"load {load_1m:.1f} on its host: stop other work while measuring")
        found += [
            f"{process} computes on the same GPU: end it, or rows are flagged 'shared'"
            for process in self.health(None).other_processes
        ]
        if reasons := self.state["throttle_reasons"]:
            found.append(
                f"its clocks are held back now ({', '.join(reasons)}):"
                " `sudo nvidia-smi -lgc CLOCK` with a clock that it can hold makes it steady"
            )
        return tuple(found)


def _process(item: dict[str, Any]) -> str:
    memory = item["memory_bytes"]
    size = f", {memory // _MIB} MiB" if memory else ""
    return f"{item['name'] or 'a process'} (pid {item['pid']}{size})"
