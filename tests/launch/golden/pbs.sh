#!/bin/bash
#PBS -N my_campaign-gpu
#PBS -l select=1:ncpus=32:ngpus=4:mem=65536mb
#PBS -l walltime=01:35:00
#PBS -r y
#PBS -j oe
#PBS -o /campaign/jobs/ab/
#PBS -J 0-2
#PBS -q gpu

exec >>/campaign/jobs/ab/"$PBS_JOBID"_0_log.out 2>&1
export SUBMITIT_EXECUTOR=pbs
case "$(hostname)" in n1|n2) exit 0;; esac
module load apptainer
stopping=0
stop() { stopping=1; kill -USR2 "$worker" 2>/dev/null; }
trap stop USR1 USR2 TERM
python -m atmonr campaign work '/a b/campaign' --pool gpu --job "$PBS_JOBID" &
worker=$!
wait "$worker"; code=$?
while [ "$stopping" = 1 ] && [ "$code" -gt 128 ]; do stopping=0; wait "$worker"; code=$?; done
exit "$code"
