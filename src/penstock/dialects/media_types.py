"""MIME types of files by the ending of their names, as far as models take them. No table of the system is read."""

from urllib.parse import urlsplit

BY_ENDING: dict[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "json": "application/json",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "avi": "video/x-msvideo",
    "mkv": "video/x-matroska",
}
_USUAL = {"image": "image/jpeg", "audio": "audio/mpeg", "video": "video/mp4", "document": "application/pdf"}


def type_of_url(url: str) -> str | None:
    """Return the MIME type that the path of `url` ends in, or None."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    name, dot, ending = path.rpartition(".")
    return BY_ENDING.get(ending.lower()) if dot and name else None


def usual_type(kind: str) -> str:
    """Return the MIME type to say of media of a kind where a type must be said and none is known."""
    return _USUAL[kind]
