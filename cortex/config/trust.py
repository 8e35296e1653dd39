"""Shared tokens, and the files of TLS, as configurations have them.

A token is given as `token`, or as `token_file`, which is read with the configuration: wherever `…token_file` stands,
`…token` is what the file says. A relative path is relative to the configuration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, SecretStr, ValidationInfo

from cortex.config.access import why_not


def _token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is printable ASCII without blanks, for example what `openssl rand -hex 32` prints")
    return token


def _beside_file(path: Path, info: ValidationInfo) -> Path:
    folder = info.context.get("folder") if info.context else None
    return folder / path if folder else path


Token = Annotated[SecretStr, AfterValidator(_token)]
ConfigPath = Annotated[Path, AfterValidator(_beside_file)]


def check_pair(certificate: Path | None, key: Path | None) -> None:
    """ValueError for half a pair."""
    if (certificate is None) != (key is None):
        raise ValueError(f"tls_{'key' if key is None else 'cert'}: is missing; TLS needs tls_cert and tls_key together")


def with_tokens_read(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The same tables with every `…token_file` read into its `…token`. Raises ValueError, which names key and file."""
    read: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            read[key] = with_tokens_read(value, folder)
        elif isinstance(value, list):
            read[key] = [with_tokens_read(item, folder) if isinstance(item, Mapping) else item for item in value]
        else:
            read[key] = value
            if key.endswith("token_file") and isinstance(value, str):
                if (token := key.removesuffix("_file")) in values:
                    raise ValueError(f"{key}: say {token} or {key}, not both")
                read[token] = _read(key, folder / value)
    return read


def token_files(values: Mapping[str, Any]) -> list[str]:
    """Every file that `with_tokens_read` reads."""
    found = []
    for key, value in values.items():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, Mapping):
                found += token_files(table)
            elif key.endswith("token_file") and isinstance(table, str):
                found.append(table)
    return found


def _read(key: str, file: Path) -> str:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ValueError(f"{key}: {file} cannot be read: {why_not(file, error)}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{key}: {file} holds no token: it is not ASCII") from None
    if not text:
        raise ValueError(f"{key}: {file} is empty")
    return text
