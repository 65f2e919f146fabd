"""Tests of readers find the module that writes matrices."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
