"""What ends a run before its time: a fault that the events tell, or a wish to stop."""

import re

EXIT_FAULT = 3
"""Exit code of a run whose fault stands in the events."""
_NO_ROOM = {28, 27, 122}  # ENOSPC, EFBIG (the file system or a limit takes no larger file), EDQUOT


class TrainingFault(Exception):
    """A run cannot go on; `fault` is one of the names in `RunFault`, `hint` says what would help."""

    def __init__(self, fault: str, text: str, *, hint: str = "", **detail: object) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.hint = hint
        self.detail = detail


class StopWanted(Exception):
    """Somebody asked the run to stop (SIGTERM, or its parent is gone); the checkpoint is the next thing to do."""


def tell_disk_fault(error: BaseException) -> TrainingFault | None:
    """Return the fault `disk_full` if `error` says that a file could not grow, else None.

    The writer of safetensors gives no error number, only its text.
    """
    number = getattr(error, "errno", None)
    if number is None:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found.group(1)) if found else None
    if number not in _NO_ROOM:
        return None
    return TrainingFault(
        "disk_full",
        f"A checkpoint could not be written: {error}",
        hint="Free some space, or lower train.keep_checkpoints; `penstock tune resume` goes on from the last whole checkpoint.",
    )


def tell_memory_fault(error: BaseException) -> TrainingFault | None:
    """Return the fault `out_of_memory` if `error` is a refused allocation (of the machine or of a GPU), else None."""
    text = str(error)
    is_refused = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if not is_refused and not ("allocate" in text and "memory" in text):
        return None
    return TrainingFault(
        "out_of_memory",
        f"Memory ran out: {text.splitlines()[0] if text else 'allocation refused'}",
        hint="Lower train.batch_size and raise train.accumulate by as much: the steps stay the same.",
    )
