"""Puts the rooms on sys.path, so that `import ssl_modules` and class paths in configs find them.

An installed wheel has the rooms, cli.py and configs/ in this folder. A clone has them beside it.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE if (PACKAGE / "cli.py").is_file() else PACKAGE.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # before site-packages, where others may have a `callbacks` or a `common`
