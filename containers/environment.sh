# Sourced by the %environment of every image, without the variables of the host, which Apptainer adds afterwards where
# they are not set here. Nothing here pins NCCL or UCX: what fits them is up to the cluster.
export PATH=/usr/local/share/atmonr/venv/bin:$PATH LC_ALL=C.UTF-8
# Packages in a user's home folder would take precedence over those of the image.
export PYTHONNOUSERSITE=1
# For the provenance of results.
ATMONR_REVISION="$(cat /usr/local/share/atmonr/REVISION)"
export ATMONR_REVISION
# Locks fail on many parallel file systems; no file of ours has two writers.
export HDF5_USE_FILE_LOCKING=FALSE

# Caches on node-local scratch: nobody can write to the image, and home folders are slow and shared by nodes.
for atmonr_scratch in /tmp /var/tmp; do
    atmonr_scratch="$atmonr_scratch/atmonr-cache-$(id -u)"
    # Not one that somebody else made.
    if mkdir -p -m 700 "$atmonr_scratch" 2>/dev/null && [ -O "$atmonr_scratch" ]; then break; fi
done
export NUMBA_CACHE_DIR="$atmonr_scratch/numba"
export TRITON_CACHE_DIR="$atmonr_scratch/triton"
export TORCHINDUCTOR_CACHE_DIR="$atmonr_scratch/inductor"
export CUDA_CACHE_PATH="$atmonr_scratch/cuda"
export MPLCONFIGDIR="$atmonr_scratch/matplotlib"
unset atmonr_scratch
