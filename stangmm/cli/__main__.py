"""``python -m stangmm.cli``."""

import sys

from stangmm.cli import main

if __name__ == "__main__":
    sys.exit(main())
