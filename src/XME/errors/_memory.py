"""What can happen to shared memory and to its names."""

from __future__ import annotations

from XME.errors._root import XMEError


class SharedMemoryFull(XMEError, MemoryError):
    """Shared memory could not be reserved. Fields: ``wanted``, ``free``, ``total`` (bytes), ``where`` (the folder)."""

    wanted: int
    free: int
    total: int
    where: str

    @classmethod
    def of(cls, wanted: int, free: int, total: int, where: str) -> SharedMemoryFull:
        """Make the error from its numbers, all in bytes."""
        message = (
            f"{wanted:,} bytes of shared memory were wanted and {free:,} of {total:,} are free in {where}: drop arrays "
            "that are no longer needed, or make it larger (in a container: docker run --shm-size=8g; "
            f"else: mount -o remount,size=8G {where})"
        )
        return cls(message, wanted=wanted, free=free, total=total, where=where)


class BadSegment(XMEError, ValueError):
    """A shared memory segment is not what its name promises. Fields: ``name``, ``reason``."""

    name: str
    reason: str

    @classmethod
    def of(cls, name: str, reason: str) -> BadSegment:
        """Make the error from the segment's name and what is wrong with it."""
        message = (
            f"the shared memory segment {name!r} cannot be used: {reason}; it was damaged, made by another version "
            "of XME, or unlinked by a foreign program (multiprocessing.shared_memory unlinks at exit what it opened)"
        )
        return cls(message, name=name, reason=reason)


class DomainEnded(XMEError, RuntimeError):
    """The program that owned this shared memory has ended. Field: ``domain``."""

    domain: str

    @classmethod
    def of(cls, domain: str) -> DomainEnded:
        """Make the error from the domain's id."""
        message = (
            f"the program that opened domain {domain} has ended, so its names and locks are gone; what is mapped stays "
            "readable, and what must outlive its program is a list or dict made with name=, or a published array, "
            "Monitor or Security"
        )
        return cls(message, domain=domain)


class DomainFull(XMEError, RuntimeError):
    """A domain has no free participant number. Fields: ``domain``, ``capacity``."""

    domain: str
    capacity: int

    @classmethod
    def of(cls, domain: str, capacity: int) -> DomainFull:
        """Make the error from the domain's id and the number of processes that it can hold."""
        message = (
            f"domain {domain} already has {capacity} living processes, as many as it was made for: end some of them, "
            "or set XME_CAPACITY to a larger number before the first process uses XME"
        )
        return cls(message, domain=domain, capacity=capacity)


class ContainerGone(XMEError, RuntimeError):
    """A shared container was unlinked while somebody still wanted its name. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str, why: str = "its owner dropped or unlinked it") -> ContainerGone:
        """Make the error from the container's name."""
        return cls(f"the shared container {name!r} is gone: {why}; keep a reference to it in the process that made it",
                   name=name)


class NameTaken(XMEError, FileExistsError):
    """A public name is already in use. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str) -> NameTaken:
        """Make the error from the public name."""
        return cls(f"the name {name!r} is in use by living processes: XME.attach({name!r}) opens what they share, "
                   "or choose another name", name=name)


class NameUnknown(XMEError, FileNotFoundError):
    """No living process shares anything under this name. Field: ``name``."""

    name: str

    @classmethod
    def of(cls, name: str) -> NameUnknown:
        """Make the error from the public name."""
        return cls(f"nothing is shared under the name {name!r}: it was never made, or its last user has "
                   "ended; `python -m XME ls` lists what there is", name=name)


class ShortLived(XMEError, ValueError):
    """A container that may end first was put into one that may outlive it. Fields: ``container``, ``value``."""

    container: str
    value: str

    @classmethod
    def of(cls, container: str, value: str, advice: str = "store a plain copy") -> ShortLived:
        """Make the error from the name of the container, the text of what was put in, and what to put in instead."""
        message = (
            f"{value} cannot be put into the shared container {container!r}: it may end before that does; {advice}"
        )
        return cls(message, container=container, value=value)
