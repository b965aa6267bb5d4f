"""One file per family of networks, called as the `kind` on its models' cards: its configuration and `FAMILY`."""
