"""Shell commands that bring a device into a known state, and note down how to put it back.

They run on the device with ``$d`` set to our folder there. What undoes them is appended to the
script ``$d/restore`` before anything is changed, so that it is at hand also after lutra, the link
or the device died.
"""

from __future__ import annotations

from collections.abc import Iterable

_AWAKE_ON_ANY_POWER = 7
_STAY_AWAKE = "stay_on_while_plugged_in"


def hold_clocks(cores: Iterable[int]) -> str:
    """Hold the cores at their highest clock where this user may set their governor."""
    numbers = " ".join(str(core) for core in cores)
    return f"""for n in {numbers}; do
 f=/sys/devices/system/cpu/cpu$n/cpufreq/scaling_governor
 [ -w "$f" ] && read -r g < "$f" || continue
 case "$g" in performance|''|*[!a-z_]*) continue;; esac
 echo "echo $g > $f" >> "$d/restore" && echo performance > "$f"
done
"""


def keep_awake() -> str:
    """Keep an Android device awake while it is on power, and switch its screen on."""
    return f"""if command -v settings >/dev/null; then
 v=$(settings get global {_STAY_AWAKE})
 case "$v" in ''|*[!0-9]*) v=0;; esac
 echo "settings put global {_STAY_AWAKE} $v" >> "$d/restore" &&
  settings put global {_STAY_AWAKE} {_AWAKE_ON_ANY_POWER}
 input keyevent KEYCODE_WAKEUP
fi
"""
