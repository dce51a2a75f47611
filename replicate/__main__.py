"""`python -m replicate`: the command line."""

from __future__ import annotations

import sys

from replicate.cli import main

if __name__ == "__main__":
    sys.exit(main())
