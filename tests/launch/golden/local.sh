module load apptainer

exec python -m atmonr campaign work '/a b/campaign' --pool gpu --job local
