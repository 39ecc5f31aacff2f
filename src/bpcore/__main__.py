"""`python -m bpcore` is the command `bpcore`."""

import sys

from bpcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
