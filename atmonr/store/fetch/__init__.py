"""Files from the archives: catalogue, login, and downloads that can be continued and are checked."""
