"""Runs when Python starts in an image: what depends on the job, which %environment does not see.

The image has two MPIs: MPICH, which mpi4py finds by itself, and Open MPI. Launchers that speak PMIx (srun
--mpi=pmix, mpirun of Open MPI) need the latter, all others the former. Whoever binds the host's MPI names its
library in MPI4PY_LIBMPI, and that stays.
"""

import os

if "PMIX_NAMESPACE" in os.environ:
    os.environ.setdefault("MPI4PY_LIBMPI", "libmpi.so.40")
