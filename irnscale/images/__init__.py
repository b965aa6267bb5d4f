"""Files to pixels and back. Knows no network, and importing it never imports torch (`bicubic` alone does)."""
