"""The archives that `atmonr fetch` asks, on this machine."""

from tests.store.fetch.conftest import archives, certificate  # noqa: F401
