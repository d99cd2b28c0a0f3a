"""Where an endpoint is and how it is asked: from a settings file or the environment, never from a workflow."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

VARIABLES = {
    "url": "IAMG_ENDPOINT_URL",
    "key": "IAMG_ENDPOINT_KEY",
    "vision_model": "IAMG_ENDPOINT_VISION_MODEL",
    "language_model": "IAMG_ENDPOINT_LANGUAGE_MODEL",
}
KEY_VARIABLE = "key_env"


@dataclass(frozen=True)
class EndpointSettings:
    url: str
    """Of an OpenAI-compatible server, up to /v1: http://127.0.0.1:11434/v1 for Ollama."""
    key: str = field(default="", repr=False)
    vision_model: str = ""
    language_model: str = ""
    concurrency: int = 4
    """Requests that are open together."""
    timeout: float = 120.0
    """Seconds for one answer."""
    retries: int = 4
    """Further attempts at a request that fails in a way that may pass."""


def read_endpoint_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> EndpointSettings:
    """The settings of a TOML file; of the environment where there is no path.

    FileNotFoundError or ValueError, which never show the key, where they cannot be used.
    """
    if path is None:
        found = {name: environment[variable] for name, variable in VARIABLES.items() if environment.get(variable)}
        return _settings(found, "the environment", f"set {VARIABLES['url']}, or give a settings file with a url")
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"endpoint settings {path} do not exist; write that file, with a url") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"endpoint settings {path} are not TOML: {error}") from error
    if variable := found.pop(KEY_VARIABLE, None):
        if not environment.get(str(variable)):
            raise ValueError(f"endpoint settings {path} take the key from the variable {variable}, which is not set")
        found["key"] = environment[str(variable)]
    return _settings(found, str(path), 'add a line such as url = "http://127.0.0.1:11434/v1"')


def _settings(found: dict[str, object], source: str, how: str) -> EndpointSettings:
    known = {setting.name: setting.type for setting in fields(EndpointSettings)}
    if unknown := found.keys() - known.keys():
        raise ValueError(f"{source} has {', '.join(sorted(unknown))}; endpoint settings are {', '.join(known)}")
    if not found.get("url"):
        raise ValueError(f"{source} does not say where the endpoint is; {how}")
    for name, value in found.items():
        kinds = (int, float) if known[name] is float else known[name]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"{name} of {source} must be {known[name].__name__}, got {type(value).__name__}")
    settings = EndpointSettings(**found)
    if settings.concurrency < 1 or not settings.timeout > 0 or settings.retries < 0:
        raise ValueError(f"{source}: concurrency must be 1 or more, timeout above 0, and retries 0 or more")
    address = urlsplit(settings.url)
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.query:
        raise ValueError(f"the url of {source} must be http(s)://host:port/v1, with neither a name, a key nor a query")
    if not settings.key.isascii() or not settings.key.isprintable():
        raise ValueError(f"the key of {source} has characters that no key has")
    return settings
