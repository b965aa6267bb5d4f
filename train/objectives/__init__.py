"""What can be trained, a file each: `OBJECTIVE` of `<name>.py` is found by the recipe's `objective`."""
