"""Lets launchers start the command line as a module: `torchrun … -m atmonr train …`."""

from atmonr.cli import main

if __name__ == "__main__":
    main()
