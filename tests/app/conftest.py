"""The app's own modules, importable as the app imports them."""

import sys
from pathlib import Path

from medssl import serve

APP = Path(serve.page()).parent
sys.path.insert(0, str(APP))
