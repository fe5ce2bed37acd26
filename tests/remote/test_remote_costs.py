"""What is done the short way gives what the long way gives."""

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from msp.remote.bookkeeping import Bookkeeper
from msp.remote.inventory import split_line
from msp.remote.ledger import HostEnd, Key, MemoryLedger, StepRecord, Verdict


def words(line: str) -> list[str] | str:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        return str(error)


@given(st.text(alphabet="ab=/ \t\"'\\#\r\n\x0b\xa0", max_size=30))
@example('srv-1 10.0.0.5 22 root key=/a hostkey="ssh-ed25519 AAAA b c" # a "comment')
@example('a "" b""c')
def test_a_line_of_hosts_is_split_as_a_shell_does(line: str) -> None:
    try:
        found: list[str] | str = split_line(line)
    except ValueError as error:
        found = str(error)
    assert found == words(line)


@dataclass(slots=True)
class Counting(MemoryLedger):
    """Blocks, as a database does, and counts the claims of each transaction."""

    blocking: bool = True
    written: list[int] = field(default_factory=list)

    def write(
        self, records: Sequence[StepRecord], ends: Sequence[HostEnd], claims: Sequence[Key]
    ) -> Mapping[Key, Verdict]:
        self.written.append(len(claims))
        return MemoryLedger.write(self, records, ends, claims)


def claimed(hosts: int, apart: float) -> list[int]:
    """Return the claims of each transaction when hosts ask one after the other, `apart` seconds from each other."""
    ledger = Counting()

    async def ask(books: Bookkeeper, host: int) -> None:
        await asyncio.sleep(host * apart)
        assert await books.claim(Key(host, 1, "do")) == "granted"

    async def all_of_them() -> None:
        async with Bookkeeper(ledger, hosts=hosts) as books:
            await asyncio.gather(*(ask(books, host) for host in range(hosts)))

    asyncio.run(all_of_them())
    return ledger.written


def test_claims_of_many_hosts_share_transactions_and_one_host_waits_for_nobody() -> None:
    assert claimed(1, 0) == [1]
    many = claimed(200, 0.0005)
    assert sum(many) == 200
    assert len(many) < 20
