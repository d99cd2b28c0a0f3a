"""`python -m iamg_train`."""

import sys

from iamg_train.cli import main

sys.exit(main())
