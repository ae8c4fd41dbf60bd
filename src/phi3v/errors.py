"""The one error that a user is meant to read: raised anywhere, printed as one line by programs."""


class UserError(ValueError):
    """Something in the user's configuration, data or folders is wrong.

    The message is one line that says what is wrong, where, and what to do about it.
    """


class DivergedError(UserError):
    """The loss or a gradient is no finite number any more."""


class PrunedError(UserError):
    """A job of a sweep was ended because it had no hope to be the best.

    Attributes:
        objective: The best that it had reached.
    """

    def __init__(self, message: str, objective: float | None) -> None:
        super().__init__(message)
        self.objective = objective
