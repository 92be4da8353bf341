"""The keeper of a folder on a device: a shell that clears it away when the connection ends.

It waits for the end of its input, however that comes: closed, lost, or lutra killed. Then it ends
our programs, puts the device's state back and removes the folder. It also does what earlier keepers
could not, because the device lost power under them.

Folders lie where others may write. One is ours only where this user owns it and it is no link, and
so is a file in it. A process number is trusted only while that process works in the folder, and
only by who can see it: a keeper in another container (of another process namespace, or another
host's with a shared temporary folder) may live although its number means nothing here.
"""

from __future__ import annotations

from lutra.devices.remote.device_state import NOTES
from lutra.devices.remote.shell import quoted

# Programs leave their numbers in files of the folder and work in it.
_END = """umask 077; LC_ALL=C; export LC_ALL
me=$(id -u)
# One look: what is ours in a folder with the sticky bit nobody else can put something else for.
ours() {
 set -- $(ls -ldn "$1" 2>/dev/null) - - -
 case "$1" in l*) false;; *) [ "$3" = "$me" ];; esac
}
works_in() {
 case "$(readlink "/proc/$1/cwd" 2>/dev/null)" in */"${2##*/}") true;; *) false;; esac
}
# end FILE [SIGNAL]: end the process, or send it the signal; whether it ran.
end() {
 ours "$1" && read -r p rest < "$1" && works_in "$p" "${1%/*}" && kill "-${2:-KILL}" "$p"
}
"""
# The file ``keeper`` says whose folder it is: PROCESS HOST BOOT NAMESPACE OWNER CLAIM. ``lives``
# and ``gone`` tell of a folder's keeper what is sure; of another container's, neither.
_CLEAR = (
    _END
    + NOTES
    + """host=$(uname -n); space=$(readlink /proc/self/ns/pid 2>/dev/null); boot=
{ read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null
host=${host:--} space=${space:--} boot=${boot:--}
seen() {
 ours "$1" && ours "$1/keeper" && read -r p h b s o c < "$1/keeper" &&
  [ "$h" = "$host" ] && { [ "$b" != "$boot" ] || [ "$s" = "$space" ]; }
}
lives() { seen "$1" && works_in "$p" "$1"; }
gone() { seen "$1" && ! works_in "$p" "$1"; }
clear() {
 end "$1/script"
 end "$1/pid"
 ours "$1" && : > "$1/ending"
 put_back "$1"
 rm -rf "$1"
}
"""
)
_KEEP = """trap '' HUP PIPE
for k in @parent@/lutra-*/keeper; do
 gone "${k%/*}" && clear "${k%/*}"
done >/dev/null 2>&1
d=@folder@
claim=@claim@
sign() { echo "$$ $host $boot $space @owner@ $1" > "$d/keeper"; }
# Whether another owner's run holds the claim. One of ours cannot: it was killed, or lost the link.
taken() {
 for k in "${d%/*}"/lutra-*/keeper; do
  [ "$k" != "$d/keeper" ] && lives "${k%/*}" && [ "$c" = "$claim" ] || continue
  [ "$o" = @owner@ ] || return 0
  end "$k"
  clear "${k%/*}"
 done
 false
}
# The folder goes before `busy` is said: whoever hears that may look, or end the connection.
fail() { rm -rf "$d"; [ -z "$1" ] || echo "$1"; exit 1; }
mkdir "$d" 2>&1 || exit 1
cd "$d" && sign "" 2>&1 || fail
if [ -n "$claim" ]; then
 taken && fail "@mark@busy $p"
 sign "$claim" 2>&1 || fail
fi
{
@hold@
} </dev/null >/dev/null 2>&1
echo "@mark@$d"
read -r line
clear "$d" >/dev/null 2>&1
echo @mark@
"""


def keeper_script(parent: str, name: str, mark: str, hold: str, claim: str, owner: str) -> str:
    """The script that makes the folder ``name`` and keeps it.

    ``parent`` is a word of the shell. It prints the mark with the folder's path behind it when the
    folder is there and ``hold`` was run, and the mark alone at its end; where the keeper of another
    ``owner`` holds the same ``claim``, the mark with ``busy`` and that keeper's process number.
    Whoever calls it holds the claim among the runs of the same owner: a keeper of one of those was
    left behind, and is ended.
    """
    values = {
        "parent": parent,
        "folder": f"{parent}/{name}",
        "hold": hold or ":",
        "claim": quoted(claim),
        "owner": owner,
        "mark": mark,
    }
    script = _CLEAR + _KEEP
    for placeholder, value in values.items():
        script = script.replace(f"@{placeholder}@", value)
    return script


def clear_command(path: str) -> str:
    """The command that does the work of a keeper that is gone, or whose connection is."""
    return f"{_CLEAR}end {quoted(path)}/keeper; clear {quoted(path)}"


def end_command(path: str) -> str:
    """The command that kills the program of a folder; its status is 0 where one ran.

    The script that started it is stopped before, so that it starts no other one, and killed
    afterwards: when that is gone, the connection is, and the program may be.
    """
    script, program = f"{quoted(path)}/script", f"{quoted(path)}/pid"
    return f"{_END}end {script} STOP; end {program}; status=$?; end {script}; exit $status"
