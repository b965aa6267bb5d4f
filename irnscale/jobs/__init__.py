"""What `down` and `up` do, below the command line: a task with its options, jobs, and where they are done.

A task (`Down`, `Up`) and the `Job` of one input say all of one piece of work; both are picklable. `planning.plan`
makes the jobs of a run, a backend does them. `files` has the same for Python: `down_file`, `up_file`. Importing this
does not import torch.
"""
