"""What Slurm itself writes into the output of a batch job."""

import re

TIME_LIMIT = b"DUE TO TIME LIMIT"
_CANCELLED = re.compile(
    rb"\*\*\* (?:JOB|STEP) \S{1,40} (?:ON \S{1,200} )?CANCELLED AT \S{1,40} " + TIME_LIMIT
)


def ended_by_time_limit(text: bytes) -> bool:
    """Whether it says that the job, or a step of it, was ended for having run too long."""
    return _CANCELLED.search(text) is not None
