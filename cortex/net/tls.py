"""TLS contexts: which certificate a listener shows, and whom a connection trusts. Files are PEM."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path


class TlsError(Exception):
    """A certificate, key or authority cannot be used; the message names the file."""


def showing(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a listener. Call `show` again when the files were renewed: new connections get the new certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    show(context, certificate, key)
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise TlsError(f"tls_cert {certificate} with tls_key {key} cannot be used: {_reason(error)}") from error


@functools.cache
def trusting_system() -> ssl.SSLContext:
    """For connections to whoever the operating system's authorities vouch for."""
    return ssl.create_default_context()


def trusting(authority: Path) -> ssl.SSLContext:
    """For connections to whoever this authority vouches for, and nobody else. A certificate is its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust(context, authority)
    return context


def trust(context: ssl.SSLContext, authority: Path) -> None:
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise TlsError(f"tls_ca {authority} cannot be used: {_reason(error)}") from error


def _no_password() -> str:
    """Else OpenSSL asks on the terminal, and a service would hang."""
    raise ValueError("the key is encrypted; give one without a password, readable by this service only")


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else None
    return reason or getattr(error, "strerror", None) or str(error)
