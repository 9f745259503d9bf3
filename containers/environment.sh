# Sourced by the %environment of every image. Nothing here pins NCCL or UCX: what fits them is up to the cluster.
export PATH=/usr/local/share/atmonr/venv/bin:$PATH LC_ALL=C.UTF-8
# Packages in a user's home folder would take precedence over those of the image.
export PYTHONNOUSERSITE=1
unset PYTHONPATH PYTHONHOME
# For the provenance of results.
ATMONR_REVISION="$(cat /usr/local/share/atmonr/REVISION)"
export ATMONR_REVISION
# Locks fail on many parallel file systems; no file of ours has two writers.
export HDF5_USE_FILE_LOCKING="${HDF5_USE_FILE_LOCKING:-FALSE}"

# Caches on node-local scratch: nobody can write to the image, and home folders are slow and shared by nodes.
for atmonr_scratch in "${TMPDIR:-/tmp}" /tmp /var/tmp; do
    atmonr_scratch="$atmonr_scratch/atmonr-cache-$(id -u)"
    # Not one that somebody else made.
    if mkdir -p -m 700 "$atmonr_scratch" 2>/dev/null && [ -O "$atmonr_scratch" ]; then break; fi
done
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$atmonr_scratch/numba}"
export TRITON_CACHE_DIR="${TRITON_CACHE_DIR:-$atmonr_scratch/triton}"
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$atmonr_scratch/inductor}"
export CUDA_CACHE_PATH="${CUDA_CACHE_PATH:-$atmonr_scratch/cuda}"
export MPLCONFIGDIR="${MPLCONFIGDIR:-$atmonr_scratch/matplotlib}"
unset atmonr_scratch

# The MPI that speaks the launcher's language: Open MPI for PMIx (srun --mpi=pmix, mpirun of Open MPI), otherwise
# MPICH (PMI1, PMI2). Whoever binds the host's MPI sets this to its library, see containers/README.md.
if [ -z "${MPI4PY_LIBMPI:-}" ] && [ -n "${PMIX_NAMESPACE:-}" ]; then
    export MPI4PY_LIBMPI=libmpi.so.40
fi
