"""Another program that is fed through its standard input."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from atmonr.errors import StoreError

_LAST_WORDS = 3


class Child(NamedTuple):
    """What can be done with a running program; both raise StoreError if it fails."""

    feed: Callable[[bytes], object]
    finish: Callable[[], bytes]  # closes its input, waits for its end and returns what it wrote


@contextmanager
def child(command: Sequence[str], failure: str) -> Iterator[Child]:
    """Run a program; when the block ends, in whichever way, it has ended too.

    Args:
        command: The program and its arguments.
        failure: What to say before the program's last words if it fails.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        stdin = process.stdin
        if stdin is None:
            raise ValueError("expected a pipe")

        def failed() -> StoreError:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-_LAST_WORDS:]
            return StoreError(f"{failure}: {' / '.join(said) or f'it ended with {process.returncode}'}")

        def feed(data: bytes) -> None:
            try:
                stdin.write(data)
            except BrokenPipeError as error:
                process.wait()
                raise failed() from error

        def finish() -> bytes:
            answer, _ = process.communicate()
            if process.returncode:
                raise failed()
            return answer

        try:
            yield Child(feed, finish)
        finally:
            process.kill()
            process.wait()
            for stream in (stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
