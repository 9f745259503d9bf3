#!/bin/bash
# What goes into every image. Definitions call it in %post, from a copy of the checkout in /src:
#   install.sh system                packages of the distribution, Debian or Ubuntu
#   install.sh python LOCK [VENV]    Python packages as locked, into a virtual environment
#   install.sh atmonr FLAVOUR [VENV] atmonr itself, what tells about the image, and no leftovers
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
own=/opt/atmonr
# PyTorch's own index: builds without CUDA are not on PyPI.
torch_index=https://download.pytorch.org/whl/cpu

system() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # Open MPI is the one that speaks PMIx; the mpich wheel, PMI1, PMI2 and the ABI of Cray MPICH. OpenVDB's module is
    # built for the distribution's NumPy, and is run by the distribution's Python.
    apt-get -qq install --no-install-recommends -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Use-Pty=0 \
        ca-certificates openmpi-bin python3-venv python3-openvdb python3-numpy >/dev/null
    apt-get clean
    rm -rf /var/lib/apt/lists/*
}

python() {
    local lock=$source/containers/locks/$1.txt venv=${2:-$own}
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-cache-dir --quiet)
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    local from=()
    if ls /mnt/*.whl >/dev/null 2>&1; then
        from=(--no-index --find-links /mnt) # brought by the host: build.sh, or a machine with network
    elif [ "$1" = cpu ]; then
        from=(--extra-index-url "$torch_index")
    fi
    "${pip[@]}" install --no-deps --require-hashes --no-compile --root-user-action ignore "${from[@]}" -r "$lock"
}

atmonr() {
    local flavour=$1 venv=${2:-$own}
    local python=$venv/bin/python share=/usr/local/share/atmonr
    # Time stamps of the archive that pip builds.
    export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800}
    "$python" -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation --no-compile \
        --no-index --no-cache-dir --root-user-action ignore "$source"
    local packages
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$source/containers/image_start.py" "$packages/atmonr_image_start.py"
    echo "import atmonr_image_start" >"$packages/atmonr_image_start.pth"
    # Compiled now, because nobody can write to an image, and never held against time stamps. Tests of packages are
    # left out; some are for other versions of Python.
    "$python" -m compileall -q -j 0 -x '/tests/|/_internal/' --invalidation-mode unchecked-hash "$venv/lib"
    mkdir -p "$share"
    cp -r "$source"/{configs,LICENSE,REVISION,containers/locks/"$flavour".txt} "$share"
    cp "$source"/containers/{environment.sh,selftest.sh,selftest.py,golden.json} "$share"
    ln -sf "$("$python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" /usr/local/bin/ffmpeg
    ln -sfn "$venv" "$share/venv"
    # The libraries of CUDA in wheels, for what does not load them through torch, such as tinycudann.
    find "$venv" -path '*/nvidia/*/lib' -type d >/etc/ld.so.conf.d/atmonr.conf
    ldconfig
    "$python" "$source/containers/sbom.py" "$share/$flavour.txt" >"$share/sbom.cdx.json"
    cp "$source/containers/help.txt" /.singularity.d/runscript.help
    labels "$flavour" "$python" >>"$APPTAINER_LABELS"
    # Not /tmp: while an image is built, that is the host's.
    rm -rf /src /root/.cache /var/log/*.log /var/log/apt/* /var/cache/ldconfig/aux-cache
}

labels() {
    local flavour=$1 python=$2
    local versions='import torch; print(torch.__version__, torch.version.cuda or torch.version.hip or "none")'
    local torch toolkit
    read -r torch toolkit < <("$python" -c "$versions")
    echo "org.opencontainers.image.title atmonr"
    echo "org.opencontainers.image.version $("$python" -c 'import atmonr; print(atmonr.__version__)')"
    echo "org.opencontainers.image.revision $(cat "$source/REVISION")"
    echo "org.opencontainers.image.licenses Apache-2.0"
    # A base that is from no registry is named by its packages.
    local base=${BASE:-debian:$(cat /etc/debian_version)@dpkg-sha256:$(dpkg-query -W | sha256sum | cut -c1-64)}
    echo "org.opencontainers.image.base.name ${base%%@*}"
    echo "org.opencontainers.image.base.digest ${base#*@}"
    echo "atmonr.flavour $flavour"
    echo "atmonr.lock.sha256 $(sha256sum <"$source/containers/locks/$flavour.txt" | cut -c1-64)"
    echo "atmonr.torch $torch"
    case $flavour in
    cuda) echo "atmonr.cuda $toolkit" ;;
    rocm) echo "atmonr.rocm $toolkit" ;;
    *) echo "atmonr.cuda none" ;;
    esac
}

"$@"
