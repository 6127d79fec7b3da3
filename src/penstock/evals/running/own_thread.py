"""Calls of user code, each in a thread of its own: one that hangs takes no thread from anybody, and holds up no end."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


async def call_in_thread(function: Callable[..., Any], argument: Any) -> Any:
    """Return what `function(argument)` returns, or raise what it raises; cancelled, it goes on alone and nobody hears of it.

    What is no `Exception` (`sys.exit` in user code) is raised as a RuntimeError: it is to end the call, not the process.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: Exception | None) -> None:
        if told.done():
            return
        if error is None:
            told.set_result(value)
        else:
            told.set_exception(error)

    def work() -> None:
        value: Any = None
        failure: Exception | None = None
        try:
            value = context.run(function, argument)
        except StopIteration as error:  # a future takes none
            failure = RuntimeError(f"StopIteration: {error}")
        except Exception as error:
            failure = error
        except BaseException as error:
            failure = RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, name="penstock-user-function", daemon=True).start()
    return await told
