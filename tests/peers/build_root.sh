#!/usr/bin/env bash
# build_root.sh ARCH DIR [PACKAGE...]: a small Debian root file system with Android's own adbd.
#
# ARCH is amd64 or arm64; PACKAGEs come on top of a phone's. Needs root, apt, dpkg-deb and the
# machine's Debian mirror. Packages are unpacked, not configured: nothing of ARCH is executed, so
# arm64 is built without emulation. DIR appears whole or not at all.
set -euo pipefail

architecture=$1
target=$2
shift 2
case $architecture in amd64 | arm64) ;; *) echo "no such architecture: $architecture" >&2; exit 2 ;; esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$target.partial

# adbd is in backports, which most machines do not list: a private apt state asks the machine's
# own mirror for it and leaves the machine's apt as it is.
mirror=$(grep -rhoE '^(URIs:|deb .*) *https?://[^ ]+/debian/?( |$)' \
    /etc/apt/sources.list.d /etc/apt/sources.list 2>/dev/null |
    grep -oE 'https?://[^ ]+' | head -n 1 || true)
[ -n "$mirror" ] || { echo "no Debian mirror in the machine's apt sources" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial
: >"$work/status"
for suite in bookworm bookworm-backports; do
    echo "deb [arch=$architecture signed-by=$keyring] $mirror $suite main"
done >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
CONF
export APT_CONFIG=$work/apt.conf
apt-get update -q >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
apt-get install -y -q --download-only -t bookworm-backports \
    adbd toybox mksh dash coreutils grep sed mawk libstdc++6 "$@" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }

rm -rf "$root"
mkdir -p "$root"/usr/{bin,sbin,lib} "$root"/{dev,proc,sys,tmp,run,root,etc}
mkdir -p "$root"/{data/local/tmp,system/bin,phone}
directories="bin sbin lib"
if [ "$architecture" = amd64 ]; then
    mkdir -p "$root/usr/lib64"
    directories="$directories lib64"
fi
for directory in $directories; do ln -s "usr/$directory" "$root/$directory"; done
for package in "$work"/cache/archives/*.deb; do
    case ${package##*/} in
    # What only a configure step would use.
    perl-base_* | perl_* | dpkg_* | debconf_* | tzdata_* | install-info_* | ucf_*) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$package" |
        tar -x --keep-directory-symlink -C "$root" --exclude=./usr/share/doc --exclude=./usr/share/man \
            --exclude=./usr/share/locale
done
# A configure step would have made these.
cat >"$root/etc/passwd" <<PASSWD
root:x:0:0:root:/root:/bin/sh
shell:x:2000:2000:shell:/data:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
PASSWD
printf 'root:x:0:\nshell:x:2000:\nnogroup:x:65534:\n' >"$root/etc/group"
ln -sfn mksh "$root/usr/bin/sh" # Android's shell
ln -sfn mawk "$root/usr/bin/awk"
ln -sfn which.debianutils "$root/usr/bin/which"
chmod 1777 "$root/tmp" "$root/data/local/tmp"

rm -rf "$target"
mv "$root" "$target"
