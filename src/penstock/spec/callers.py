"""For whom an app calls a model: what the gateway tells the apps process with a call, and gets back with each call the app makes.

Apps call with the installation's own key. What they spend is their caller's, whose limits hold for it, so the gateway says
who that is, and takes its own word back from that key alone.
"""

import msgspec

APPS = "apps"
"""Name of the built-in provider whose targets are apps and prompts. It calls back."""
CALLER_HEADER = "x-penstock-caller"
"""Holds a `Caller`, opaque to apps: they send back what they were sent."""
PROMPT_HEADER = "x-penstock-prompt"
"""On a call that a prompt makes: `prompt:NAME` and its stamp, with a space between."""
GROUPS_HEADER = "x-penstock-groups"
"""Sent by clients: the groups that the user of a call belongs to, with commas between; percent-encoded where a name holds one.
Believed from keys that are nobody's."""
PRINCIPALS_HEADER = "x-penstock-principals"
"""Sent to apps alone: as whom a call may read documents, percent-encoded, with commas between. `everyone` is not written."""
ROUTES_HEADER = "x-penstock-routes"
"""Sent to apps alone: the routes that the caller's key may call, written likewise; absent where it may call all."""
KEY_HEADER = "x-penstock-key-id"
"""Sent to the apps process with what is no call: the id of the key, for the span of what is read."""
KNOWLEDGE_HEADER = "x-penstock-knowledge"
"""On the reply of an app or a search: the version and generation that were searched, `knowledge:NAME@3 gen_…`."""
REFUSAL_HEADER = "x-penstock-refusal"
"""On the reply to a call that a limit of its caller refused: the error, opaque to apps, who pass it on with their reply."""


class Caller(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who called an app, and by which names it was asked."""

    key: str
    """Id of the key."""
    project: str
    user: str | None = None
    is_user_of_body: bool = False
    """Whether only a request's body has named the user: whom calls count for, and as whom nothing may be read."""
    session: str | None = None
    groups: tuple[str, ...] = ()
    """Groups of the user, as the outermost caller told them."""
    routes: tuple[str, ...] = ()
    """Routes the call has come through, the outermost first; more than one where an app asks an app."""
    models: tuple[str, ...] = ()
    """The apps and prompts behind these."""
    prompt: tuple[str, str] | None = None
    """Name and stamp of the prompt that makes the call."""
