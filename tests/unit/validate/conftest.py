"""One library with sound inputs, for each test of validation."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from sound_inputs import Inputs


@pytest.fixture
def inputs(tmp_path):
    return Inputs(tmp_path)
