#!/bin/bash
# %test of every image. Ends with 0, or with a line that says what fails.
set -euo pipefail
share=/usr/local/share/atmonr
export OMP_NUM_THREADS=1
fail() { echo "atmonr image: $*" >&2; exit 1; }

python -m pip check --disable-pip-version-check || fail "packages do not fit each other"
python "$share/selftest.py" "$share/golden.json" || fail "does not calculate"
ffmpeg -version >/dev/null || fail "no ffmpeg"
python -c 'from atmonr.export.vdb import find_python; print("OpenVDB works with", *find_python())' || fail "no OpenVDB"
# Two ranks that add up something, by either MPI.
two=(-n 2 atmonr doctor --mpi --device cpu)
mpiexec "${two[@]}" || fail "two ranks of MPICH do not meet"
# Below another launcher or as root, Open MPI wants to be told that this is meant.
env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=tcp,self OMPI_MCA_plm_rsh_agent=/bin/false \
    /usr/bin/mpirun --oversubscribe "${two[@]}" || fail "two ranks of Open MPI do not meet"

if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    python - <<'P' || fail "a GPU answers, but does not calculate"
import importlib.util, torch
value = torch.linspace(0, 1, 64, device="cuda").view(8, 8)
assert torch.allclose((value @ value).cpu(), value.cpu() @ value.cpu(), atol=1e-4)
print("GPU calculates:", torch.cuda.get_device_name())
if importlib.util.find_spec("tinycudann"):
    import tinycudann
    print("tinycudann loads")
P
else
    echo "no GPU answers: what needs one is not tested; apptainer test takes --nv and --rocm"
fi
