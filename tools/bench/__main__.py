"""`python -m sfumato.tools.bench samplers`."""

import sys

from ..cli import main

if __name__ == "__main__":  # a class path may name any module of Sfumato, and importing one does nothing
    sys.exit(main(["bench", *sys.argv[1:]]))
