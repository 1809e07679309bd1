"""How Sphinx makes the documentation: ``sphinx-build -W -n docs OUTPUT``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from twisted_chat.version import __version__

project = "twisted_chat"
author = "the twisted_chat authors"
copyright = f"2025-2026, {author}"  # Sphinx asks for a variable of that name
release = version = __version__
extensions: list[str] = []
root_doc = "index"
html_theme = "alabaster"
highlight_language = "none"
nitpicky = True
# Files that are shown as text or made by commands.
exclude_patterns = ["_build"]
