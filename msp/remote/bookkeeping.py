"""Between many hosts and one ledger: claims and results of a moment go into one transaction."""

import asyncio
from collections.abc import Callable
from typing import Self

from msp.remote.ledger import HostEnd, Key, Ledger, StepRecord, Verdict

GATHER = 0.05  # seconds that results wait for company
#: Seconds that claims wait for company, for each host at work, and at most. A transaction costs as much as what ten
#: hosts write in it: one host goes at once, of 50 and more those that ask within 50 ms share one.
COMPANY, LONGEST = 0.001, 0.05
LARGEST = 500  # entries of one transaction


class Bookkeeper:
    """Hands entries to the ledger in batches. A claim returns when its transaction is committed.

    If the ledger fails, every waiting and later claim raises its error: nothing acts without a claim.
    """

    def __init__(
        self, ledger: Ledger, listener: Callable[[StepRecord | HostEnd], None] | None = None, *, hosts: int = 1
    ) -> None:
        """hosts: that may be at work at once; the more, the longer a claim waits for others."""
        self._ledger, self._listener, self._hosts = ledger, listener, hosts
        self._records: list[StepRecord] = []
        self._ends: list[HostEnd] = []
        self._claims: dict[Key, asyncio.Future[Verdict]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._ledger.blocking:
            self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._flush()
        if self._failed:
            raise self._failed

    async def claim(self, key: Key) -> Verdict:
        """Claim one effect; the verdict is committed when this returns."""
        if self._failed:
            raise self._failed
        if not self._ledger.blocking:
            verdict: Verdict = self._ledger.write((), (), (key,))[key]
            return verdict
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._claims[key] = future
        self._wake.set()
        return await future

    async def resolve(self, key: Key, *, ran: bool) -> None:
        """Settle an effect in doubt, after the results told before are written: one of them may have put it there."""
        if self._ledger.blocking:
            await asyncio.shield(self._flush())
            if self._failed:
                raise self._failed
            await asyncio.to_thread(self._ledger.resolve, key, ran=ran)
        else:
            self._ledger.resolve(key, ran=ran)

    def token(self, key: Key) -> str:
        return self._ledger.token(key)

    def result(self, record: StepRecord) -> None:
        """Tell what a phase did."""
        if self._listener:
            self._listener(record)
        if self._ledger.blocking:
            self._records.append(record)
            self._wake.set()
        else:
            self._ledger.write((record,), (), ())

    def end(self, end: HostEnd) -> None:
        """Tell how a host ended."""
        if self._listener:
            self._listener(end)
        if self._ledger.blocking:
            self._ends.append(end)
            self._wake.set()
        else:
            self._ledger.write((), (end,), ())

    async def _keep(self) -> None:
        while True:
            await self._wake.wait()
            if len(self._records) < LARGEST:
                await asyncio.sleep(min(self._hosts * COMPANY, LONGEST) if self._claims else GATHER)
            self._wake.clear()
            await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        """Write everything there is; entries that come meanwhile wait for the next turn."""
        async with self._writing:
            if not (self._records or self._ends or self._claims):
                return
            records, self._records = self._records, []
            ends, self._ends = self._ends, []
            claims, self._claims = self._claims, {}
            try:
                verdicts = await asyncio.to_thread(self._ledger.write, records, ends, list(claims))
            except BaseException as error:  # noqa: BLE001  handed to every host that waits
                self._failed = error
                for future in claims.values():
                    if not future.done():
                        future.set_exception(error)
                return
            for key, future in claims.items():
                if not future.done():
                    future.set_result(verdicts[key])
