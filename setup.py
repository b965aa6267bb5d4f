"""Package layout: the folders `kernels`, `train` and `checkpoints` become subpackages of `irnscale`."""

from setuptools import find_packages, setup

ROOTS = {
    "irnscale": "irnscale",
    "irnscale.kernels": "kernels",
    "irnscale.train": "train",
    "irnscale.checkpoints": "checkpoints",
}

packages = [
    name for root, folder in ROOTS.items() for name in [root, *(f"{root}.{sub}" for sub in find_packages(folder))]
]

setup(packages=packages, package_dir=ROOTS)
