"""`python -m sfumato.tools.bench samplers`."""

import sys

from ..cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
