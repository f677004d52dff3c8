"""``python -m marengo_cli``: the same as ``marengo``."""

import sys

from marengo_cli import main

sys.exit(main())
