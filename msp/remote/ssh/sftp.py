"""A folder written file by file over SFTP, several at once, for a host that cannot unpack a stream.

Source: draft-ietf-secsh-filexfer-02, which OpenSSH's server speaks.
"""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import asyncssh

from msp.remote import payload
from msp.remote.outcome import OK, Outcome
from msp.remote.payload import Tree

AT_ONCE = 16  # files on their way: each costs the line several times to the host and back


async def put(connection: asyncssh.SSHClientConnection, tree: Tree, folder: str, timeout: timedelta) -> Outcome:
    """Write what is below `tree` into `folder` on the host; see Puts.put."""
    sftp: asyncssh.SFTPClient | None = None
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            try:
                sftp = await connection.start_sftp_client()
            except (asyncssh.Error, OSError) as error:
                if connection.is_closed():
                    return _gone()
                return Outcome("failed", detail=f"It has no SFTP either: {_said(error)}.")
            await _write(sftp, tree, folder)
    except TimeoutError:
        return Outcome("failed", detail="The files did not arrive over SFTP in time.")
    except asyncssh.SFTPError as error:
        return _gone() if connection.is_closed() else Outcome("failed", detail=f"SFTP: {_said(error)}.")
    except OSError as error:
        if connection.is_closed():
            return _gone()
        return Outcome("failed", detail=f"{error.filename or 'A file'} cannot be read here: {error.strerror or error}.")
    except asyncssh.Error:
        return _gone()
    finally:
        if sftp is not None:
            sftp.exit()
    return OK


def _said(error: Exception) -> str:
    return str(getattr(error, "reason", "") or error).rstrip(".") or type(error).__name__


def _gone() -> Outcome:
    return Outcome("unreachable", reason="connect", detail="The connection went while files were written over SFTP.")


async def _write(sftp: asyncssh.SFTPClient, tree: Tree, folder: str) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    folders = [path for path in tree.below if path.is_dir()]
    for path in folders:  # parents come first
        await sftp.mkdir(_there(tree, path, folder), asyncssh.SFTPAttrs(permissions=0o700))
    try:
        async with asyncio.TaskGroup() as group:
            for path in tree.below:
                if not path.is_dir():
                    group.create_task(_one(sftp, path, _there(tree, path, folder), room))
    except ExceptionGroup as failed:  # the first file that failed tells; the others were given up for it
        raise failed.exceptions[0] from failed
    for path in reversed(folders):  # their times change by what is written into them
        await _dress(sftp, path, _there(tree, path, folder))


def _there(tree: Tree, path: Path, folder: str) -> bytes:
    return f"{folder}/{path.relative_to(tree.folder).as_posix()}".encode("utf-8", "surrogateescape")


async def _one(sftp: asyncssh.SFTPClient, path: Path, there: bytes, room: asyncio.Semaphore) -> None:
    async with room:
        sent = 0
        async with sftp.open(there, "xb", asyncssh.SFTPAttrs(permissions=0o600)) as file:
            chunks = payload.read(path)
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                await file.write(chunk)
                sent += len(chunk)
        arrived = (await sftp.stat(there)).size
        if arrived != sent:
            raise asyncssh.SFTPFailure(f"{path.name} arrived with {arrived} of {sent} bytes")
        await _dress(sftp, path, there)


async def _dress(sftp: asyncssh.SFTPClient, path: Path, there: bytes) -> None:
    """Give it the mode and the time that it has here."""
    seen = os.stat(path)  # noqa: PTH116  a look at one's own disk
    await sftp.setstat(
        there, asyncssh.SFTPAttrs(permissions=seen.st_mode & 0o777, atime=int(seen.st_mtime), mtime=int(seen.st_mtime))
    )
