"""Shell commands that bring a device into a known state, and put back what was there.

They run on the device with ``$d`` set to our folder there. What a setting was is noted in the file
``$d/restore`` before it is changed, so that it is at hand also after lutra, the link or the device
died. A note is data, ``KIND NAME VALUE``, and is read as nothing else: what is found on a device is
never run. Of a setting that another run which lives has noted, its note is taken over, and whoever
ends last puts it back: what is restored is what the first one found.
"""

from __future__ import annotations

from collections.abc import Iterable

_AWAKE_ON_ANY_POWER = 7
_STAY_AWAKE = "stay_on_while_plugged_in"

NOTES = f"""whole() {{ case "$1" in ''|*[!0-9]*) false;; esac; }}
word() {{ case "$1" in ''|*[!a-z_]*) false;; esac; }}
# noted FOLDER KIND NAME [staying]: the value of a setting in the notes of another run that lives,
# and is not about to end. Two that end at once each say so before they look: the later one sees it.
noted() {{
 for f in "${{1%/*}}"/lutra-*/restore; do
  [ "$f" != "$1/restore" ] && lives "${{f%/*}}" && ours "$f" || continue
  [ -n "$4" ] && [ -e "${{f%/*}}/ending" ] && continue
  while read -r kind name value; do
   [ "$kind $name" = "$2 $3" ] && echo "$value" && return
  done < "$f"
 done
 false
}}
put_back() {{
 ours "$1/restore" || return 0
 while read -r kind name value; do
  (noted "$1" "$kind" "$name" staying) >/dev/null && continue
  case "$kind" in
  governor) whole "$name" && word "$value" && governor "$name" "$value";;
  setting) [ "$name" = {_STAY_AWAKE} ] && whole "$value" && stay_awake "$value";;
  esac
 done < "$1/restore"
}}
governor() {{ echo "$2" > "/sys/devices/system/cpu/cpu$1/cpufreq/scaling_governor"; }}
stay_awake() {{ settings put global {_STAY_AWAKE} "$1" </dev/null; }}
"""
"""Functions of the shell for `hold_clocks` and `keep_awake`, and ``put_back FOLDER``.

They need those of `lutra.devices.remote.keeper`.
"""


def hold_clocks(cores: Iterable[int]) -> str:
    """Hold the cores at their highest clock where this user may set their governor."""
    numbers = " ".join(str(core) for core in cores)
    return f"""for n in {numbers}; do
 f=/sys/devices/system/cpu/cpu$n/cpufreq/scaling_governor
 [ -w "$f" ] || continue
 g=$(noted "$d" governor $n) || read -r g < "$f"
 [ "$g" != performance ] && word "$g" &&
  echo "governor $n $g" >> "$d/restore" && governor $n performance
done
"""


def keep_awake() -> str:
    """Keep an Android device awake while it is on power, and switch its screen on."""
    return f"""if command -v settings >/dev/null; then
 v=$(noted "$d" setting {_STAY_AWAKE}) || v=$(settings get global {_STAY_AWAKE})
 whole "$v" || v=0
 echo "setting {_STAY_AWAKE} $v" >> "$d/restore" && stay_awake {_AWAKE_ON_ANY_POWER}
 input keyevent KEYCODE_WAKEUP
fi
"""
