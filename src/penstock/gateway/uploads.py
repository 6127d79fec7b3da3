"""Takes a `multipart/form-data` body apart while it arrives: small fields are kept, the file's bytes are handed on."""

from email.message import Message

from penstock.gateway.errors import WrongForm

_MAX_HEAD_BYTES = 8192
_MAX_FIELD_BYTES = 8192
_MAX_PARTS = 32


class FormReader:
    """Reads one form with at most one file. Any split of the bytes gives the same result."""

    def __init__(self, boundary: bytes) -> None:
        """`boundary` begins with the two dashes that it has inside the body."""
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """Of the file, once it has begun."""
        self.is_complete = False
        self._border = b"\r\n" + boundary
        self._buffer = b"\r\n"  # so that the first border looks like all others
        self._state = "preamble"
        self._name = ""
        self._is_file = False
        self._value = b""
        self._n_parts = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body; return the next bytes of the file. Raises `WrongForm`."""
        self._buffer += data
        out: list[bytes] = []
        while not self.is_complete and self._step(out):
            pass
        return b"".join(out)

    def finish(self) -> None:
        """Raise `WrongForm` if the form is not complete."""
        if not self.is_complete:
            raise _broken("it ends in the middle")

    def _step(self, out: list[bytes]) -> bool:
        """Go on by one border or head; return whether there may be more to do with what has arrived."""
        if self._state == "head":
            return self._read_head()
        if self._state == "border":
            return self._read_border()
        at = self._buffer.find(self._border)
        end = at if at >= 0 else max(0, len(self._buffer) - len(self._border) + 1)
        content, self._buffer = self._buffer[:end], self._buffer[end:]
        if self._state == "body":
            self._take(content, out)
        if at < 0:
            return False
        if self._state == "body" and not self._is_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")
        self._buffer = self._buffer[len(self._border) :]
        self._state = "border"
        return True

    def _read_border(self) -> bool:
        if self._buffer.startswith(b"--"):
            self.is_complete = True
            return False
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > 256:
                raise _broken("a border does not end")
            return False
        self._buffer = self._buffer[end:]  # the line break may already be the one before an empty head
        self._state = "head"
        return True

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise _broken("the head of a part is too long")
            return False
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        self._n_parts += 1
        if self._n_parts > _MAX_PARTS:
            raise _broken(f"it has over {_MAX_PARTS} parts")
        self._name, filename = _read_names(head)
        self._is_file = filename is not None
        self._value = b""
        if self._is_file:
            if self.filename is not None or self._name != "file":
                raise WrongForm("Send exactly one file, as `file`.", param="file")
            self.filename = filename
        elif self._name in self.fields:
            raise WrongForm(f"`{self._name[:100]}` is given twice.", param=self._name[:100])
        self._state = "body"
        return True

    def _take(self, content: bytes, out: list[bytes]) -> None:
        if self._is_file:
            out.append(content)
            return
        self._value += content
        if len(self._value) > _MAX_FIELD_BYTES:
            raise _broken("a field is too long")


def _read_names(head: bytes) -> tuple[str, str | None]:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            message = Message()
            message["content-disposition"] = value.strip().decode("utf-8", "replace")
            field = message.get_param("name", header="content-disposition")
            return field if isinstance(field, str) else "", message.get_filename()
    return "", None


def _broken(why: str) -> WrongForm:
    return WrongForm(f"The form cannot be read: {why}.", hint="Send multipart/form-data as RFC 7578 has it.")
