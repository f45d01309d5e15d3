"""Locks on what commands write: one owner at a time, on any number of machines that share a disk."""

from slimasr.locking.lock import Lock, file_lock, folder_lock, refuse_while_locked

__all__ = ["Lock", "file_lock", "folder_lock", "refuse_while_locked"]
