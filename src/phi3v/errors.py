"""The one error that a user is meant to read: raised anywhere, printed as one line by programs."""


class UserError(ValueError):
    """Something in the user's configuration, data or folders is wrong.

    The message is one line that says what is wrong, where, and what to do about it.
    """
