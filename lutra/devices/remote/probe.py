"""What a Linux or Android system tells of itself, read by one shell script.

Everything is optional: phones hide files, boards lack drivers, tools are missing. The script
prints ``name=value`` lines, the parser takes what it understands and ignores the rest.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field

from lutra.devices.base import Health
from lutra.text import first_words

_GET = r"""
say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$2"; }
get() { v=; [ -r "$2" ] && { read -r v < "$2"; } 2>/dev/null; [ -n "$v" ] && say "$1" "$3$v"; }
"""
STATE_SCRIPT = (
    _GET
    + r"""
for z in /sys/class/thermal/cooling_device*; do
 t=; { read -r t < "$z/type"; } 2>/dev/null
 v=; { read -r v < "$z/cur_state"; } 2>/dev/null
 say cooling "$v $t"
done
get firmware_throttled /sys/devices/platform/soc/soc:firmware/get_throttled
command -v vcgencmd >/dev/null 2>&1 && vcgencmd get_throttled 2>/dev/null
command -v dumpsys >/dev/null 2>&1 && dumpsys thermalservice 2>/dev/null | sed -n -E \
 -e 's/^ *Thermal Status: *([0-9]+).*/thermal_status=\1/p' \
 -e 's/.*Temperature\{mValue=([-0-9.]+), mType=([-0-9]+), mName=([^,]*),.*/sensor=\1 \3/p'
true
"""
)
SCRIPT = (
    STATE_SCRIPT
    + r"""
say machine "$(uname -m)"
say kernel "$(uname -sr)"
say host "$(uname -n)"
get machine_id /etc/machine-id
get boot_id /proc/sys/kernel/random/boot_id
m=/sys/firmware/devicetree/base/model
[ -r $m ] && say board "$(tr -d '\000' < $m)"
get present /sys/devices/system/cpu/present
get online /sys/devices/system/cpu/online
get load /proc/loadavg
sed -n -E 's/^MemTotal: *([0-9]+) kB/memory_kb=\1/p' /proc/meminfo 2>/dev/null
sed -n -E -e 's/^(model name|Model|Hardware|CPU part)[[:space:]]*: *(.*)/cpuinfo=\1:\2/p' \
 -e 's/^processor.*/processor=1/p' /proc/cpuinfo 2>/dev/null
for c in /sys/devices/system/cpu/cpu[0-9]*; do
 f=$c/cpufreq; n=${c##*cpu}
 get maximum $f/cpuinfo_max_freq "$n "
 get capacity $c/cpu_capacity "$n "
 get governor $f/scaling_governor "$n "
 get clock $f/scaling_cur_freq "$n "
 [ -w $f/scaling_governor ] && say tunable $n
done
for z in /sys/class/thermal/thermal_zone*; do get zone $z/temp; done
for t in taskset tar python3 vcgencmd nvpmodel getprop dumpsys svc settings; do
 command -v $t >/dev/null 2>&1 && say tool $t
done
command -v nvpmodel >/dev/null 2>&1 && \
 nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: */power_mode=/p'
if command -v getprop >/dev/null 2>&1; then
 for p in ro.product.manufacturer ro.product.model ro.soc.manufacturer ro.soc.model \
  ro.board.platform ro.product.cpu.abi ro.build.version.release ro.build.version.sdk ro.serialno; do
  say $p "$(getprop $p)"
 done
fi
command -v dumpsys >/dev/null 2>&1 && dumpsys battery 2>/dev/null | sed -n -E \
 's/^ *(level|temperature|AC powered|USB powered|Wireless powered): *(.*)/battery=\1:\2/p'
true
"""
)

_HOT_COOLING = re.compile(r"cpufreq|cpu-|thermal-cpu|processor", re.IGNORECASE)
_UNDER_PRESSURE = 0xF  # vcgencmd get_throttled: under-voltage, capped, throttled, soft limit: now
_NAMES = re.compile(r"[a-z_.A-Z]+")


@dataclass(frozen=True)
class SystemFacts:
    """What the system said; ``values`` holds every value of a name, in order."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def first(self, name: str) -> str | None:
        """The first value of a name, if there is one."""
        return self.values.get(name, [None])[0]

    def has(self, tool: str) -> bool:
        """Whether a command is installed."""
        return tool in self.values.get("tool", [])

    @property
    def identity(self) -> str | None:
        """What tells the device from all others, however it is reached; None where unknown."""
        ids = (self.first(name) for name in ("ro.serialno", "machine_id", "boot_id"))
        known = next(filter(None, ids), None)
        return known and f"{known} {self.first('host') or ''}".strip()

    @property
    def cores(self) -> tuple[int, ...]:
        """The numbers of its cores, sorted, also of those that are switched off now."""
        known = _ranges(self.first("present") or "") or _ranges(self.first("online") or "")
        return known or tuple(range(len(self.values.get("processor", [])) or 1))

    @property
    def cores_off(self) -> tuple[int, ...]:
        """The cores that are switched off now: phones do that when they are hot or idle."""
        online = _ranges(self.first("online") or "")
        return tuple(core for core in self.cores if core not in online) if online else ()

    def per_core(self, name: str) -> dict[int, str]:
        """A value of each core that tells it, such as ``governor``."""
        pairs = (value.split(None, 1) for value in self.values.get(name, []))
        return {int(pair[0]): pair[1] for pair in pairs if len(pair) == 2 and _is_whole(pair[0])}

    def speed(self, core: int) -> tuple[int, int]:
        """What ranks a core: its capacity, then its highest clock in kHz; 0 where unknown."""
        known = (_number(self.per_core(name).get(core)) for name in ("capacity", "maximum"))
        capacity, maximum = known
        return int(capacity or 0), int(maximum or 0)

    @property
    def memory_bytes(self) -> int:
        """Main memory; 0 where unknown."""
        return max(0, int(_number(self.first("memory_kb")) or 0)) * 1024

    @property
    def processor(self) -> str:
        """What /proc/cpuinfo calls the processor."""
        named: dict[str, list[str]] = defaultdict(list)
        for value in self.values.get("cpuinfo", []):
            name, _, text = value.partition(":")
            named[name].append(text)
        for name in ("Hardware", "Model", "model name"):
            if named[name]:
                return named[name][0]
        parts = sorted(set(named["CPU part"]))
        return f"ARM {'+'.join(parts)}" if parts else ""

    @property
    def governor(self) -> str | None:
        """The governors in use, without repeats."""
        return ", ".join(sorted(set(self.per_core("governor").values()))) or None

    @property
    def tunable_cores(self) -> tuple[int, ...]:
        """The cores whose governor this user may set."""
        return tuple(int(value) for value in self.values.get("tunable", []) if _is_whole(value))

    @property
    def thermal_status(self) -> int | None:
        """Android's thermal status: 0 none, 1 light .. 6 shutdown."""
        status = _number(self.first("thermal_status"))
        return None if status is None else int(status)

    @property
    def throttled(self) -> bool | None:
        """Whether the system says that it holds clocks back now; None where nothing tells."""
        told = []
        if self.thermal_status is not None:
            told.append(self.thermal_status > 0)
        for name in ("throttled", "firmware_throttled"):
            value = self.first(name)
            if value is not None and re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", value):
                told.append(bool(int(value, 16) & _UNDER_PRESSURE))
        for value in self.values.get("cooling", []):
            state, _, kind = value.partition(" ")
            if _is_whole(state) and _HOT_COOLING.search(kind):
                told.append(int(state) > 0)
        return any(told) if told else None

    @property
    def temperature_c(self) -> float | None:
        """The hottest sensor that reads plausibly, in degrees Celsius."""
        zones = [_leading(value) for value in self.values.get("zone", [])]
        readings = [zone / 1000 if abs(zone) > 200 else zone for zone in zones if zone is not None]
        sensors = [_leading(value) for value in self.values.get("sensor", [])]
        readings += [sensor for sensor in sensors if sensor is not None]
        plausible = [reading for reading in readings if 0 < reading < 150]
        return max(plausible, default=None)

    @property
    def battery(self) -> dict[str, str]:
        """What `dumpsys battery` says."""
        return {
            name: text.strip()
            for name, _, text in (value.partition(":") for value in self.values.get("battery", []))
        }

    @property
    def charging(self) -> bool | None:
        """Whether it is on power; None where nothing tells."""
        told = [text == "true" for name, text in self.battery.items() if name.endswith("powered")]
        return any(told) if told else None

    def health(self) -> Health:
        """The state now, as every adapter tells it."""
        clocks = [_number(value) for value in self.per_core("clock").values()]
        known = [clock for clock in clocks if clock]
        return Health(
            load_1m=_leading(self.first("load") or ""),
            clock_mhz=max(known) / 1000 if known else None,
            temperature_c=self.temperature_c,
            battery_percent=_number(self.battery.get("level")),
            throttled=self.throttled,
        )


def parse_facts(output: str) -> SystemFacts:
    """The facts in what `SCRIPT` printed; lines that say nothing to us are ignored."""
    values: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        name, separator, value = line.partition("=")
        value = first_words(value)
        if separator and value and _NAMES.fullmatch(name):
            values[name].append(value)
    return SystemFacts(dict(values))


def fastest_cores(facts: SystemFacts, count: int) -> tuple[int, ...]:
    """The ``count`` fastest cores, sorted by number.

    Equal ones from the highest number down: the first cores serve most interrupts.
    """
    ranked = sorted(facts.cores, key=lambda core: (facts.speed(core), core), reverse=True)
    return tuple(sorted(ranked[:count]))


def _ranges(text: str) -> tuple[int, ...]:
    """``0-3,6`` as (0, 1, 2, 3, 6); empty if it is anything else."""
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        if match is None:
            return ()
        cores.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cores))


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _leading(text: str) -> float | None:
    return _number(text.split()[0]) if text.split() else None
