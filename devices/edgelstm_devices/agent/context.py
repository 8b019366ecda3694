"""What a call on the device has besides its arguments, and the error that it answers with."""

from __future__ import annotations

from typing import Any, BinaryIO


class AgentError(Exception):
    """One sentence that says what is wrong on the device and what to do next."""


class Context:
    """The caller, as a call on the device sees it.

    This one is of nobody in particular: nobody listens, and it never goes away. That is how Ansible
    calls; `serve` has the one of an ssh connection.
    """

    def event(self, **fields: Any) -> None:
        """Tells the caller something at once, such as `what="ready"`; lost when it is gone."""

    def alive(self) -> bool:
        """Whether the caller is still there: its connection stands and it was heard of lately."""
        return True

    def body(self) -> BinaryIO:
        """The bytes that follow the call.

        Raises:
            AgentError: none follow.
        """
        raise AgentError("This call came without the bytes that it needs.")
