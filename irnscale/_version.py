"""The version, in a module of its own: what is below the package's front door can ask for it."""

from __future__ import annotations

__version__ = "0.1.0"
