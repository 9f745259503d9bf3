"""Scenes on disk: a granule is ingested once into a Zarr group, then read many times."""
