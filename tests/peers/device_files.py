"""What /sys and /proc tell on real devices, as files: a phone's and a Raspberry Pi's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind; clocks in kHz, ``part`` as in /proc/cpuinfo."""

    cores: int
    min_khz: int
    max_khz: int
    part: str


PHONE_CLUSTERS = (
    Cluster(4, 300_000, 1_804_800, "0xd05"),
    Cluster(3, 500_000, 2_348_000, "0xd41"),
    Cluster(1, 700_000, 2_850_000, "0xd44"),
)
PHONE_ZONES = {"cpu-little": 34_000, "cpu-big": 36_500, "battery": 28_100, "skin": 29_600}
BOARD_CLUSTERS = (Cluster(4, 600_000, 1_500_000, "0xd08"),)
BOARD_ZONES = {"cpu-thermal": 48_300}
BOARD_MODEL = "Raspberry Pi 4 Model B Rev 1.4"

_FEATURES = "fp asimd evtstrm crc32 cpuid"
_PHONE_FEATURES = (
    f"{_FEATURES} aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
)


def write_phone_files(folder: Path) -> None:
    """``folder/sys`` and ``folder/cpuinfo`` of an eight-core phone."""
    write_sys(folder / "sys", PHONE_CLUSTERS, PHONE_ZONES)
    hardware = "Hardware\t: Lutra Test Phone\n"
    (folder / "cpuinfo").write_text(cpuinfo(PHONE_CLUSTERS, _PHONE_FEATURES, hardware))


def write_board_files(folder: Path) -> None:
    """``folder/sys`` and ``folder/cpuinfo`` of a Raspberry Pi 4."""
    write_sys(folder / "sys", BOARD_CLUSTERS, BOARD_ZONES)
    model = f"Revision\t: c03114\nModel\t\t: {BOARD_MODEL}\n"
    (folder / "cpuinfo").write_text(cpuinfo(BOARD_CLUSTERS, _FEATURES, model))
    tree = folder / "sys/firmware/devicetree/base"
    tree.mkdir(parents=True)
    (tree / "model").write_text(f"{BOARD_MODEL}\0")


def write_sys(sys: Path, clusters: Sequence[Cluster], zones: Mapping[str, int]) -> None:
    """The parts of /sys that tell clocks and temperatures; it runs at its highest clocks."""
    cpus = sys / "devices/system/cpu"
    cpus.mkdir(parents=True)
    kinds = [cluster for cluster in clusters for _ in range(cluster.cores)]
    for name in ("possible", "present", "online"):
        (cpus / name).write_text(f"0-{len(kinds) - 1}\n")
    for number, cluster in enumerate(kinds):
        _write_cpu(cpus / f"cpu{number}", cluster)
    thermal = sys / "class/thermal"
    for number, (kind, millidegrees) in enumerate(zones.items()):
        _write(thermal / f"thermal_zone{number}", type=kind, temp=millidegrees)
    _write(thermal / "cooling_device0", type="thermal-cpufreq-0", cur_state=0, max_state=8)


def cpuinfo(clusters: Sequence[Cluster], features: str, trailer: str) -> str:
    """An ARM /proc/cpuinfo. (LiteRT for aarch64 crashes on the one of an x86 host.)"""
    kinds = [cluster for cluster in clusters for _ in range(cluster.cores)]
    blocks = (
        f"processor\t: {number}\nBogoMIPS\t: 38.40\nFeatures\t: {features}\n"
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\n"
        f"CPU part\t: {cluster.part}\nCPU revision\t: 0\n\n"
        for number, cluster in enumerate(kinds)
    )
    return "".join(blocks) + trailer


def _write_cpu(folder: Path, cluster: Cluster) -> None:
    _write(
        folder / "cpufreq",
        scaling_cur_freq=cluster.max_khz,
        scaling_governor="schedutil",
        scaling_available_governors="performance powersave schedutil",
        scaling_min_freq=cluster.min_khz,
        scaling_max_freq=cluster.max_khz,
        cpuinfo_min_freq=cluster.min_khz,
        cpuinfo_max_freq=cluster.max_khz,
    )


def _write(folder: Path, **values: object) -> None:
    folder.mkdir(parents=True)
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
