"Fixtures that several test files share"
import os
from pathlib import Path

import pytest


@pytest.fixture(scope='session')
def data_dir():
    "The real data for development: `FASTMER_DATA`, or `../shared/data` beside the project"
    path = Path(os.environ.get('FASTMER_DATA') or Path(__file__).parents[2]/'shared/data')
    if not (path/'emodb/wav').is_dir(): pytest.skip(f'no data in {path}: set FASTMER_DATA')
    return path
