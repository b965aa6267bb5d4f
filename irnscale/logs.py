"""The logger `irnscale`: what is decided on the way, for who wants to know; silent unless a program listens.

info: the models and files in use, the device, precision and kernels, and every fallback. debug: how each image is run,
which subnets are run which way. The library sets no level and writes nowhere: `logging.basicConfig(level="DEBUG")` or
`--debug` on the command line shows it all.
"""

from __future__ import annotations

import logging

logging.getLogger("irnscale").addHandler(logging.NullHandler())


def logger(module: str) -> logging.Logger:
    """The logger of a module, by its name, below `irnscale`.

    Arguments of its messages are given apart (`log.debug("tiles of %d", tile)`), so that nothing is formatted unless it
    is shown.
    """
    return logging.getLogger(module)
