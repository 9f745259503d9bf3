"""A trained field becomes a verified product on a grid: grid, shards with receipts, merge to netCDF."""
