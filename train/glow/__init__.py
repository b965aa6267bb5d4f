"""Glow on 8x8 digits: the dissertation's preparation (its sections 3.2 and 4.1)."""
