#!/bin/bash
# Builds atmonr-cpu.sif from this checkout, or says that it need not: `make image-cpu`.
# Downloads with this machine's pip and apt settings, which an image in the making does not see.
set -euo pipefail
cd "$(dirname "$0")/.."
flavour=cpu image=atmonr-cpu.sif python=3.11 wheels=build/wheels/cpu
pip=(.venv/bin/python -m pip --disable-pip-version-check)

# All that goes in.
inputs=$({ git ls-files -z --cached --others --exclude-standard -- atmonr launch configs containers \
    ':!containers/README.md' pyproject.toml README.md LICENSE | sort -z | xargs -0 sha256sum
    apptainer --version; } | sha256sum | cut -c1-64)
if [ -f "$image" ] && [ "$(cat "build/$image.inputs" 2>/dev/null)" = "$inputs" ]; then
    echo "$image is of these sources already (sha256 $inputs): nothing to build"
    exit 0
fi

lock=containers/locks/$flavour.txt
rm -rf "$wheels" && mkdir -p "$wheels"
# Every platform that the C library of the image's Debian can run.
machine=$(uname -m) platforms=()
for tag in $(seq -f manylinux_2_%g 5 36) manylinux1 manylinux2010 manylinux2014; do
    platforms+=(--platform "${tag}_$machine")
done
download=("${pip[@]}" download --quiet --no-deps --require-hashes --only-binary :all: --python-version $python
    "${platforms[@]}" --dest "$wheels")
"${download[@]}" -r <(sed '/^torch==/,/[^\\]$/d' "$lock")
# torch apart: only it needs PyTorch's index, where this machine has no copy already.
index=$(sed -n 's/^torch_index=//p' containers/install.sh)
"${download[@]}" --retries 1 --extra-index-url "$index" -r <(sed -n '/^torch==/,/[^\\]$/p' "$lock")

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
# Where there is memory, building there saves writing 3 GB to disk twice.
if [ -z "${APPTAINER_TMPDIR:-}" ] && [ "$(df --output=avail -BG /dev/shm | tail -1 | tr -dc 0-9)" -ge 8 ]; then
    export APPTAINER_TMPDIR=/dev/shm
fi
rm -f "$image" "build/$image.inputs"
apptainer build --fakeroot --bind "$PWD/$wheels:/mnt" --build-arg "MIRROR=$(containers/debian-mirror.sh)" \
    --mksquashfs-args "-comp zstd -Xcompression-level 3" --notest "$image" containers/$flavour.def
echo "$inputs" >"build/$image.inputs"
ls -l "$image"
