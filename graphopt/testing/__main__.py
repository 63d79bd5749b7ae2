"""`python -m graphopt.testing FILE...` writes into golden files what their passes do now."""

from __future__ import annotations

import sys
from pathlib import Path

from graphopt.testing.golden import accept

for argument in sys.argv[1:]:
    print(accept(Path(argument)))
