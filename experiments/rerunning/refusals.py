"""Why nothing is run again."""


class CannotRerun(Exception):
    """Each refusal is one of these."""


class RunAgainAlready(CannotRerun):
    """Somebody else had the same runs run again in the same moment."""


class RunRootAway(CannotRerun):
    """The folders of runs cannot be looked at, so that all of them would seem to be missing."""
