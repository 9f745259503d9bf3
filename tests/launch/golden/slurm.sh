#!/bin/bash

# Parameters
#SBATCH --array=0-2%3
#SBATCH --cpus-per-task=32
#SBATCH --exclude=n1,n2
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --job-name='my campaign-gpu'
#SBATCH --mem=65536MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=/campaign/jobs/ab/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=B:USR2@180
#SBATCH --time=95

# setup
export ATMONR_NODE="$SLURMD_NODENAME"
module load apptainer
stopping=0
stop() { stopping=1; kill -USR2 "$worker" 2>/dev/null; }
trap stop USR1 USR2 TERM

# command
export SUBMITIT_EXECUTOR=slurm
python -m atmonr campaign work '/a b/campaign' --pool gpu --job "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" &
worker=$!
wait "$worker"; code=$?
while [ "$stopping" = 1 ] && [ "$code" -gt 128 ]; do stopping=0; wait "$worker"; code=$?; done


# teardown
if [ "$code" -eq 75 ]; then scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; fi
exit "$code"