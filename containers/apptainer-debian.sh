#!/bin/bash
# Installs Apptainer on Debian, as root. Debian 12 and 13 have none, only unstable has: its programs are put beside
# the system's with the C library they were made for, which nothing else sees. About 10 s and 80 MB.
set -euo pipefail
if command -v apptainer >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! grep -qs '^ID=debian' /etc/os-release; then
    echo "apptainer is not installed, and only root on Debian gets it from here; see containers/README.md" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -qq -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends squashfs-tools squashfuse fuse2fs fuse-overlayfs fakeroot uidmap \
    debootstrap patchelf libcap2-bin >/dev/null
if apt-cache show apptainer >/dev/null 2>&1; then
    exec "${apt[@]}" install --no-install-recommends apptainer
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,cache/archives/partial,parts,debs,x}
mirror=$("$(dirname "$0")/debian-mirror.sh")
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
unstable=("${apt[@]}" -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/parts"
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
"${unstable[@]}" update
(cd "$work/debs" && "${unstable[@]}" download apptainer libc6 libseccomp2 libsqlite3-0)
for file in "$work"/debs/*.deb; do
    dpkg-deb -x "$file" "$work/x/$(basename "$file" | cut -d_ -f1)"
done

libraries=usr/lib/$(uname -m)-linux-gnu own=/opt/apptainer/lib
mkdir -p "$own"
cp -a "$work"/x/libc6/"$libraries"/{ld-linux-*.so.*,libc.so.6,libm.so.6} "$own"
cp -a "$work"/x/libseccomp2/"$libraries"/libseccomp.so.2* "$work"/x/libsqlite3-0/"$libraries"/libsqlite3.so.* "$own"
for file in usr/bin/apptainer "$libraries/apptainer/bin/starter"; do
    patchelf --set-interpreter "$(echo "$own"/ld-linux-*)" --force-rpath --set-rpath "$own" "$work/x/apptainer/$file"
done
cp -a "$work/x/apptainer/$libraries/apptainer" "/$libraries/"
cp -an "$work/x/apptainer/etc/apptainer" /etc/
mkdir -p /var/lib/apptainer/mnt/session
cp -a "$work/x/apptainer/usr/bin/apptainer" /usr/bin/

# Where root itself lacks this capability, as in many containers, Apptainer would fail to hand it on.
if ! capsh --has-p=cap_sys_resource 2>/dev/null; then
    held=$(capsh --print | sed -n 's/^Bounding set =//p' | head -1 | tr '[:lower:]' '[:upper:]' | tr -d ' ')
    apptainer config global --set "root default capabilities" file
    apptainer capability add --user root "$held" 2>/dev/null
fi
grep -q '^root:' /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 root # for --fakeroot
[ ! -e /dev/fuse ] || chmod 666 /dev/fuse                                                              # for other users
apptainer --version
