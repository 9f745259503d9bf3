#!/bin/bash
# Builds tinycudann into the virtual environment of an image, in a stage that has nvcc: tinycudann.sh ARCHITECTURES
set -euo pipefail
commit=6ee3546bda615f51abe684ce9edefeb414689135
# Pinned by that commit, and said here so that a history written anew is noticed.
modules="952ffddba731fc110bd50409e8d2b8a06abbd237 dependencies/cmrc
82f5075946e2569589439d500733b700a3141374 dependencies/cutlass
fa2eb2d2e3ec5c21629f8ccd88ae05ec40b963fa dependencies/fmt"
lock=$(dirname "$0")/locks/tinycudann.txt
python=/opt/atmonr/bin/python

export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends -o Dpkg::Use-Pty=0 g++ git python3-dev >/dev/null

tools=/opt/tinycudann-tools source=/opt/tiny-cuda-nn
"$python" -m pip --quiet install --no-deps --require-hashes --target "$tools" -r "$lock"
git init --quiet "$source"
git -C "$source" fetch --quiet --depth 1 https://github.com/NVlabs/tiny-cuda-nn "$commit"
git -C "$source" checkout --quiet FETCH_HEAD
git -C "$source" submodule --quiet update --init --depth 1 dependencies/{cmrc,cutlass,fmt}
found=$(git -C "$source" submodule status dependencies/{cmrc,cutlass,fmt} | sed 's/^ //; s/ (.*//')
[ "$found" = "$modules" ] || { echo "tiny-cuda-nn: other submodules than pinned: $found" >&2; exit 1; }

# No GPU is seen while an image is built, and no driver: the toolkit has a stand-in to link against.
export TCNN_CUDA_ARCHITECTURES=$1 LIBRARY_PATH=/usr/local/cuda/lib64/stubs PATH=$tools/bin:/usr/local/cuda/bin:$PATH
# Not the environment's own setuptools, which is too new.
PYTHONPATH=$tools "$python" -m pip --quiet install --no-deps --no-build-isolation --no-index --no-compile \
    "$source/bindings/torch"
