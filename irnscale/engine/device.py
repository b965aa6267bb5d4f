"""Choosing the device."""

from __future__ import annotations

import torch

from irnscale.errors import DeviceError, UsageError
from irnscale.logs import logger

_log = logger(__name__)


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`, auto, cpu, cuda[:N] or mps; "auto" takes CUDA where it is, else the CPU.

    Raises UsageError for a name torch does not know, DeviceError for a device that is not there.
    """
    if name == "auto":
        chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        _log.debug("device=auto: %s", chosen)
        return chosen
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"device={name}: not a device", "use auto, cpu, cuda, cuda:N or mps", parameters=("device",)
        ) from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(
                f"device={name}: this machine has {count} CUDA devices", "use device=cpu", parameters=("device",)
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device=mps: Metal is not available here", "use device=cpu", parameters=("device",))
    elif device.type != "cpu":
        raise UsageError(f"device={name}: not supported", "use auto, cpu, cuda, cuda:N or mps", parameters=("device",))
    return device
