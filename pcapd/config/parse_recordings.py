"""Makes a `RecordingsConfig` of ``recordings:`` and ``state:``.  Pure."""

from __future__ import annotations

from typing import Final, Optional, get_args
from urllib.parse import urlsplit

from pcapd.config import checks
from pcapd.config.schema import Readers, RecordingsConfig
from pcapd.config.section import Section

__all__ = ["STATE", "recordings", "state"]

#: URL of the default database.
STATE: Final = "sqlite:////var/vcap/store/pcap-api/state.db"
_STORES: Final = ("file", "s3", "gs", "az")
_BYTES = checks.size_between(10**6, 10**15)
_readers: checks.Check[Readers] = checks.one_of(get_args(Readers))


def state(section: Section, *, needed: bool) -> Optional[str]:
    """Find the database in the whole file; None if nothing needs one.

    Args:
        needed: Whether something besides ``recordings`` needs it.
    """
    url = section.optional("state", _state, STATE)
    file = section.optional("state_file", checks.file_in(section.directory), None)
    if section.has("state") and section.has("state_file"):
        section.problem("state, state_file", "only one may be given")
    if file is not None:
        return f"file:{file}"
    return url if needed or section.has("state") or section.has("recordings") else None


def recordings(section: Section) -> RecordingsConfig:
    """Make the configuration of recordings from its section."""
    defaults = RecordingsConfig
    return RecordingsConfig(
        store=section.required("store", _store),
        credentials_file=section.optional("credentials_file", checks.file_in(section.directory), None),
        per_user=section.optional("per_user", checks.whole_number(1, 1000), defaults.per_user),
        max_duration=section.optional("max_duration", checks.duration, defaults.max_duration),
        max_bytes=section.optional("max_bytes", _BYTES, defaults.max_bytes),
        reserve=section.optional("reserve", _BYTES, defaults.reserve),
        keep=section.optional("keep", checks.duration, defaults.keep),
        readers=section.optional("readers", _readers, defaults.readers),
    )


def _store(value: object) -> str:
    """Check the URL of a store: ``file:///DIRECTORY``, ``s3://BUCKET``, ``gs://BUCKET``, ``az://CONTAINER``."""
    url = urlsplit(value) if isinstance(value, str) else None
    local = url is not None and url.scheme == "file" and not url.netloc and url.path.startswith("/")
    remote = url is not None and url.scheme in _STORES[1:] and bool(url.netloc)
    if not isinstance(value, str) or not (local or remote):
        raise ValueError(
            "must be file:///DIRECTORY, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER"
        )
    return value


def _state(value: object) -> str:
    """Check the URL of a database."""
    if not isinstance(value, str) or not value.startswith(("sqlite:///", "postgresql")):
        raise ValueError("must be sqlite:////FILE or postgresql+pg8000://…")
    return value
