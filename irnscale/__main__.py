"""`python -m irnscale`."""

from irnscale.cli.main import run

run()
