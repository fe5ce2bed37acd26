"""Unpacks a tar archive that may mean harm: nothing is ever written outside the folder given.

Every member is placed through folder handles that refuse symbolic links (openat with O_NOFOLLOW), so neither a
climbing name nor a link planted by an earlier member leads out. Device nodes are never made. Sizes are counted
before they are written. A damaged archive is said to be damaged: Python's tarfile alone ends silently at a broken
header, so the way it ended is looked at.
"""

import os
import stat
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from msp.backup.compare import Tally
from msp.backup.engine import Found
from msp.backup.manifest import shown
from msp.backup.scratch import QuotaExceeded
from msp.backup.verdict import Finding, Weight

HEADER_LIMIT = 4 << 20  # bytes of one extended header; more is an attack on our memory
BOMB_RATIO = 200  # unpacked bytes for each packed one; honest data stay far below
XATTR = "SCHILY.xattr."
ACLS = {"SCHILY.acl.access": "system.posix_acl_access", "SCHILY.acl.default": "system.posix_acl_default"}
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Hostile(Exception):
    """One member tries to leave the folder; the sentence says how."""


class _Member(tarfile.TarInfo):
    """A header that notes how the archive ended and refuses giant extended headers."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Member":
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            archive.ended_by = error  # type: ignore[attr-defined]
            raise

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in EXTENDED and self.size > HEADER_LIMIT:
            raise Found(Finding("hostile", f"The archive holds an extended header of {self.size} bytes."))
        return super()._proc_member(archive)  # type: ignore[misc]


@dataclass(slots=True)
class Unpacked:
    """What came out. `bytes` counts apparent size."""

    members: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)


def bomb(where: str, quota: QuotaExceeded) -> Found:
    """Return what to raise for data that unpack beyond all proportion and beyond what there is room for."""
    what = f"It unpacks to more than {BOMB_RATIO} times its size and over the quota: a bomb."
    advice = "Do not unpack it elsewhere; look where it came from."
    return Found(Finding("hostile", what, where, advice), _quota(quota))


def _parts(name: str) -> list[bytes]:
    raw = name.encode("utf-8", "surrogateescape")
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if raw.startswith(b"/"):
        raise _Hostile("has an absolute name")
    if b".." in parts:
        raise _Hostile("climbs out of its folder")
    return parts


class _Unpacker:
    def __init__(self, into: Path, room: int, packed: Callable[[], int]) -> None:
        self.into, self.room, self.packed = into, room, packed
        self.out, self.hostile, self.broken, self.metadata = Unpacked(), Tally(), Tally(), Tally()
        self.folders: dict[tuple[bytes, ...], tarfile.TarInfo] = {}
        self.root = os.open(into, FOLDER)
        self._last: tuple[tuple[bytes, ...], int] = ((), self.root)
        self.owners = os.geteuid() == 0

    def close(self) -> None:
        if self._last[1] != self.root:
            os.close(self._last[1])
        os.close(self.root)

    def parent(self, parts: tuple[bytes, ...]) -> int:
        """Return a handle of the folder, made where it is missing; valid until the next call."""
        if parts == self._last[0]:
            return self._last[1]
        handle = os.dup(self.root)
        try:
            for part in parts:
                try:
                    deeper = os.open(part, FOLDER, dir_fd=handle)
                except FileNotFoundError:
                    os.mkdir(part, 0o700, dir_fd=handle)
                    deeper = os.open(part, FOLDER, dir_fd=handle)
                os.close(handle)
                handle = deeper
        except OSError as error:
            os.close(handle)
            raise _Hostile("is placed through a symbolic link or a file") from error
        if self._last[1] != self.root:
            os.close(self._last[1])
        self._last = (parts, handle)
        return handle

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.out.members += 1
        parts = _parts(member.name)
        if member.ischr() or member.isblk():
            raise _Hostile("is a device node")
        if not parts:
            return  # "./", the root itself
        self.allow(member)
        folder, name = self.parent(tuple(parts[:-1])), parts[-1]
        if member.isdir():
            self.make_folder(folder, name)
            self.folders[tuple(parts)] = member
            return
        if member.islnk():
            self.link(member, parts)
            return
        self.clear(folder, name)
        if member.issym():
            os.symlink(member.linkname.encode("utf-8", "surrogateescape"), name, dir_fd=folder)
            if self.owners:
                os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
            os.utime(name, (member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=folder)
            handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            self.dress(handle, member)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(name, flags, 0o600, dir_fd=folder)
            try:
                self.fill(archive, member, handle)
            except BaseException:
                os.close(handle)
                raise
            self.dress(handle, member)

    def allow(self, member: tarfile.TarInfo) -> None:
        """Count a member before it is written; raises for a bomb and for more than there is room for."""
        size = member.size if member.isreg() else 0
        self.out.bytes += size
        if self.out.bytes <= self.room and self.out.members * 512 <= max(self.room, 1 << 20):
            return
        quota = QuotaExceeded(
            f"The archive unpacks to more than the {self.room} bytes there is room for.",
            advice="Raise scratch_quota_bytes if the data are really that large.",
        )
        if not member.issparse() and self.out.bytes > BOMB_RATIO * max(1 << 16, self.packed()):
            raise bomb(shown(os.fsencode(member.name)), quota)
        raise quota

    def make_folder(self, folder: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
                os.mkdir(name, 0o700, dir_fd=folder)

    def clear(self, folder: int, name: bytes) -> None:
        """Make way for a later member of the same name, as an appended archive has it."""
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            os.rmdir(name, dir_fd=folder)

    def link(self, member: tarfile.TarInfo, parts: list[bytes]) -> None:
        source = _parts(member.linkname)
        if not source:
            raise _Hostile("is a hard link to the root")
        there = os.dup(self.parent(tuple(source[:-1])))
        try:
            here = self.parent(tuple(parts[:-1]))
            if source != parts:
                os.stat(source[-1], dir_fd=there, follow_symlinks=False)  # before the old one is removed
                self.clear(here, parts[-1])
                os.link(source[-1], parts[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            self.broken.add(f"{member.name}: its hard link's target is not in the archive")
        finally:
            os.close(there)

    def fill(self, archive: tarfile.TarFile, member: tarfile.TarInfo, handle: int) -> None:
        source = archive.extractfile(member)
        if source is None:
            return
        written = 0
        while chunk := source.read(1 << 18):
            if member.issparse() and not chunk.strip(b"\0"):
                os.lseek(handle, len(chunk), os.SEEK_CUR)
            else:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(handle, view) :]
            written += len(chunk)
        os.ftruncate(handle, written)
        if written != member.size:
            raise tarfile.ReadError(f"{member.name} ends after {written} of {member.size} bytes")

    def dress(self, handle: int, member: tarfile.TarInfo) -> None:
        """Give an open file or folder its owner, mode, attributes and time, and close it."""
        try:
            if self.owners:
                os.fchown(handle, member.uid, member.gid)
            os.fchmod(handle, member.mode & 0o7777)
            for name, value in member.pax_headers.items():
                try:
                    if name.startswith(XATTR):
                        os.setxattr(handle, name[len(XATTR) :], value.encode("utf-8", "surrogateescape"))
                    elif name in ACLS and value:
                        os.setxattr(handle, ACLS[name], acl(value))
                except (OSError, ValueError) as error:
                    self.metadata.add(f"{member.name}: {name}: {error}")
            os.utime(handle, (member.mtime, member.mtime))
        finally:
            os.close(handle)

    def finish(self) -> None:
        """Dress the folders last and inside out, or their times and modes would not last."""
        for parts, member in sorted(self.folders.items(), reverse=True):
            try:
                handle = os.open(parts[-1], FOLDER, dir_fd=self.parent(parts[:-1]))
            except (OSError, _Hostile):
                continue  # replaced by a later member
            self.dress(handle, member)


def acl(words: str) -> bytes:
    """Return a POSIX ACL in the kernel's form from tar's text (`user::rwx,user:1000:r-x:1000,...`)."""
    tags = {"user": (1, 2), "group": (4, 8), "mask": (16, 16), "other": (32, 32)}
    entries = []
    for word in words.replace("\n", ",").split(","):
        if not (word := word.strip()):
            continue
        kind, qualifier, rights, *number = word.split(":")
        plain, named = tags[{"u": "user", "g": "group", "m": "mask", "o": "other"}.get(kind, kind)]
        bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in rights)
        who = int(number[0] if number else qualifier) if qualifier else 0xFFFFFFFF
        entries.append((named if qualifier else plain, bits, who))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))


def _quota(error: QuotaExceeded) -> Finding:
    return Finding("quota", error.what, advice=error.advice, weight=Weight.ERROR)


def unpack(stream: IO[bytes], into: Path, *, room: int, packed: Callable[[], int]) -> Unpacked:
    """Unpack an uncompressed tar stream below `into` and say what was wrong with it.

    room: bytes that may be written. packed: how many bytes of the packed file were read so far.
    Raises QuotaExceeded, or Found for a bomb. A damaged archive is a finding with reason repository.
    """
    worker = _Unpacker(into, room, packed)
    advice = "Take an older archive; this one cannot be read to its end."
    damage = ""
    try:
        try:
            with tarfile.open(
                fileobj=stream, mode="r|", tarinfo=_Member, errors="surrogateescape", encoding="utf-8"
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # tarfile would remember every member
                    try:
                        worker.take(archive, member)
                    except _Hostile as hostile:
                        worker.hostile.add(f"{shown(os.fsencode(member.name))} {hostile}")
                ended = getattr(archive, "ended_by", None)
                if not isinstance(ended, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
                    damage = f"its headers end with {ended or 'nothing'}"
            while stream.read(1 << 20):
                pass  # the checksum of a packed stream comes last
        except (tarfile.TarError, EOFError, ValueError, UnicodeError, struct.error) as error:
            damage = str(error) or type(error).__name__
        except OSError as error:
            if error.errno is not None and not isinstance(error, PermissionError):
                raise
            damage = str(error)  # gzip and bz2 raise it without a number for broken data
        except Exception as error:  # zlib.error and LZMAError share no base with the others
            if type(error).__name__ not in ("error", "LZMAError"):
                raise
            damage = str(error)
        worker.finish()
    finally:
        worker.close()
    out = worker.out
    if worker.hostile.count:
        what = f"{worker.hostile.count} members of the archive try to leave the folder they are unpacked in."
        where, tip = "; ".join(worker.hostile.named), "Do not unpack it elsewhere; look where it came from."
        out.findings.append(Finding("hostile", what, where, tip))
    if damage:
        what = f"The archive is damaged after {out.members} members: {damage}."
        out.findings.append(Finding("repository", what, advice=advice))
        out.findings.append(Finding("restore", "The restore did not come to its end.", advice=advice))
    if worker.broken.count:
        what = f"{worker.broken.count} members could not be restored."
        out.findings.append(Finding("restore", what, "; ".join(worker.broken.named), advice))
    if worker.metadata.count:
        what = f"{worker.metadata.count} attributes could not be set."
        where = "; ".join(worker.metadata.named)
        out.findings.append(Finding("metadata", what, where, "Use a scratch disk that knows them.", Weight.WARN))
    return out
