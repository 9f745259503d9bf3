"""One picture of any file of ours, and of any granule: what a first look should show."""
