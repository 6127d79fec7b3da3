"""`data:` URLs with base64 content (RFC 2397), taken apart and built without decoding what they hold."""


def split_data_url(url: str) -> tuple[str | None, str] | None:
    """Return (media type, base64 text) of a base64 `data:` URL, or None if `url` is something else."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url[5:].partition(",")
    if not comma or not head.lower().endswith(";base64"):
        return None
    return head[:-7] or None, data


def join_data_url(media_type: str | None, data: str) -> str:
    """Return the `data:` URL of base64 text."""
    return f"data:{media_type or 'application/octet-stream'};base64,{data}"
