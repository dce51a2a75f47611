"""The marker: the file that makes a directory a store and names its format and kind of locks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from replicate import __version__
from replicate.store import atomic, locks
from replicate.store.layout import OWN_NAMES, Layout
from replicate.store.locking import Locking, StoreError, has_kernel_locks, locks_stay_here
from replicate.store.record import FORMAT
from replicate.store.strict import Malformed, decode, format_of, text_of


@dataclass(frozen=True)
class Marker:
    """The content of a store's marker file."""

    format: Annotated[int, Meta(ge=1)]
    software: str = "unknown"
    locks: str = locks.KERNEL


def check(store: Locking) -> bool:
    """Whether the store has a valid marker; raises `StoreError` for a newer format or a directory that is no store."""
    marker = store.layout.marker
    anew = "each record is still checked" + ("" if store.read_only else "; the file is written again")
    try:
        content = marker.read_bytes()
        if (newer := format_of(content)) > FORMAT:
            raise StoreError(
                f"store {store.layout.root}: expected format {FORMAT} or older, got {newer}, of a newer version "
                f"({decode(content, dict[str, Any]).get('software', 'unknown')}); upgrade replicate or name another "
                "directory with --store"
            )
        found = decode(content, Marker)
    except FileNotFoundError:
        # The marker is written first: a directory without one may only hold what a killed process left on opening it.
        names = sorted(e.name for e in store.layout.root.iterdir() if not Layout.is_temporary(e.name))
        if marker.name in names:
            return check(store)  # another process has just made it
        if names and not {"runs"} <= set(names) <= OWN_NAMES:
            raise StoreError(
                f"store {store.layout.root}: expected a store or an empty directory, got one that holds "
                f"{min(set(names) - OWN_NAMES, default=names[0])!r}; name another directory with --store"
            ) from None
        if names:
            store.note(f"{marker.name} is missing: {anew}")
        elif store.read_only:
            raise StoreError(
                f"store {store.layout.root}: expected a store, got an empty directory; train first, or correct the path"
            ) from None
        return False
    except Malformed as error:
        store.note(f"{marker.name} is corrupt ({error}): {anew}")
        return False
    if found.locks not in locks.KINDS:
        raise StoreError(
            f"store {store.layout.root}: expected locks of the kind {' or '.join(locks.KINDS)}, got {found.locks!r} in "
            f"{marker.name}; upgrade replicate or name another directory with --store"
        )
    store.kind = found.locks
    return True


def write_test(store: Locking, marked: bool) -> float:
    """Test whether the store can be written: write its marker or, if it is `marked` already, a file to delete again.

    Returns the time by the file system's clock. Raises OSError if writing fails.
    """
    wanted = os.environ.get(locks.VARIABLE)
    if wanted not in (None, *((store.kind,) if marked else locks.KINDS)):
        expected = f"{store.kind}, the kind of this store" if marked else " or ".join(locks.KINDS)
        raise StoreError(
            f"store {store.layout.root}: expected {locks.VARIABLE} unset or {expected}, got {wanted!r}; for other "
            "locks make a new store and copy runs/ into it"
        )
    if not marked:
        store.kind = wanted or _kind_found(store)
    probe = store.layout.temporary(store.layout.marker)
    try:
        with probe.open("xb") as file:
            file.write(text(store.kind, f"replicate {__version__}"))
            file.flush()
            os.fsync(file.fileno())
        now = probe.stat().st_mtime
        if not marked:
            probe.replace(store.layout.marker)
            atomic.sync_folder(store.layout.root)
    finally:
        probe.unlink(missing_ok=True)
    return now


def _kind_found(store: Locking) -> str:
    """For a store without a marker: the kind of its lock files or, if it has none, the kind its file system needs."""
    for folder in (store.layout.locks, store.layout.leases):
        if folder.is_dir() and any(folder.glob(f"*.{locks.HEARTBEAT}")):
            return locks.HEARTBEAT
    if locks_stay_here(store.layout.root.resolve()):
        why = "has locks that other machines do not see"
    elif not has_kernel_locks(store.layout.root):
        why = "has no locks"
    else:
        return locks.KERNEL
    store.note(f"the file system of {store.layout.root} {why}: the store uses {locks.HEARTBEAT} locks (docs/store.md)")
    return locks.HEARTBEAT


def text(kind: str, software: str) -> bytes:
    """What to write into the marker of a store with locks of `kind`, made by the version `software`."""
    body: dict[str, Any] = {"format": FORMAT, "software": software}
    if kind != locks.KERNEL:  # an older version ignores the field and uses kernel locks, which costs time only
        body["locks"] = kind
    return text_of(body).encode() + b"\n"
