"""Run the command line as `python -m arsync`."""

import sys

from arsync.cli import main

if __name__ == "__main__":
    sys.exit(main())
