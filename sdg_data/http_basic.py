"""Read the credentials of HTTP Basic authentication (RFC 7617), for every server of the project."""

import base64


def basic_credentials(header: str) -> tuple[str, str] | None:
    """User and password of an `Authorization` header.

    Whoever compares them with a secret uses `secrets.compare_digest` on their UTF-8 bytes.

    Args:
        header: The header's value, for example `Basic YW5uOnNlY3JldA==`; "" where there is none.

    Returns:
        (user, password), the password from the first colon on; None where the header is of another scheme or is not
        well-formed (not base64, not UTF-8, no colon).
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except ValueError:  # binascii.Error, UnicodeDecodeError, or letters beyond ASCII in the header itself
        return None
    user, colon, password = decoded.partition(":")
    return (user, password) if colon else None
