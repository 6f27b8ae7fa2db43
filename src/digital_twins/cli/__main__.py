"""Run the command line as ``python -m digital_twins.cli``."""

import sys

from digital_twins.cli._main import main

sys.exit(main())
