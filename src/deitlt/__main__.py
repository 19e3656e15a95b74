"""`python -m deitlt` is the command `deitlt`."""

import sys

from deitlt.cli import main

if __name__ == "__main__":
    sys.exit(main())
