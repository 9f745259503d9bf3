#!/bin/sh
# Runs on the host in %setup: what only git knows about the checkout, for labels and time stamps of the image.
mkdir -p "$APPTAINER_ROOTFS/src"
git describe --always --abbrev=40 --exclude='*' --dirty=+changes >"$APPTAINER_ROOTFS/src/REVISION" 2>/dev/null ||
    echo unknown >"$APPTAINER_ROOTFS/src/REVISION"
