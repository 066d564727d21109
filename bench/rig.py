"""What is set up for a measurement: the federation, what signs, and servers, each started when it is first needed.

One call of ``unary``, ``batched`` or ``streamed`` puts one load on one server, and says how many credentials a second
it came to, what each cost the server, and how busy the generator was. Whatever is not accepted ends the measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from bench.core import RawVerify
from bench.credentials import (
    BATCH,
    STREAM,
    VERIFY,
    Counter,
    Held,
    Mint,
    accepted_batches,
    accepted_singles,
    accepted_streamed,
    batches,
    check,
    require,
    singles,
    stream_messages,
)
from bench.http2 import STATUS_OK
from bench.load import Cost, Flow, LoadError, connected, pinned, run, stream
from bench.servers import SQLITE, TICK_SECONDS, Cores, Federation, Process, cores, federation
from gateway.core.identifiers import Province

UNARY_CONNECTIONS: Final = 4
UNARY_IN_FLIGHT: Final = 8
"""On each connection: together as many as a gateway has threads."""
BATCH_CONNECTIONS: Final = 2
BATCH_IN_FLIGHT: Final = 2
STREAM_ITEMS: Final = 16
STREAM_AHEAD: Final = 256 * 1024
RAW_BYTES: Final = 900
"""As long as an assertion is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One load on one server."""

    per_s: float
    """Credentials, or calls of a server that knows none."""
    server_us: float
    """Time on a core that each took the server."""
    generator_share: float


class Rig:
    """Everything that measurements need. Use it as a context manager."""

    def __init__(
        self, say: Callable[[str], None], *, mint_processes: int | None = None, profiled: bool = False
    ) -> None:
        """Prepare it; nothing is started yet.

        Args:
            say: takes what is to be told on the way.
            mint_processes: see ``Mint``.
            profiled: whether servers can be asked where their time goes.
        """
        self.say = say
        self._profiled = profiled
        self.cores: Cores = cores()
        self._opened = ExitStack()
        self._mint_processes = mint_processes
        self._federation: Federation | None = None
        self._mint: Mint | None = None
        self.processes: dict[str, Process] = {}
        """Servers that run."""
        self._bare: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def federation(self) -> Federation:
        """The federation, brought up when it is first asked for."""
        if self._federation is None:
            self._federation = self._opened.enter_context(federation(self.say))
        return self._federation

    @property
    def mint(self) -> Mint:
        """What signs."""
        if self._mint is None:
            self._mint = self._opened.enter_context(Mint(self.federation.pattern, processes=self._mint_processes))
        return self._mint

    # -- servers ------------------------------------------------------------------------------------------------------

    def gateway(self, province: Province) -> Process:
        """A gateway on the server's core, started when it is first asked for."""
        if province.code not in self.processes:
            self.say(f"starting the gateway of {province.name_en}")
            self.processes[province.code] = self._opened.enter_context(
                self.federation.gateway(province, on={self.cores.server}, profiled=self._profiled)
            )
        return self.processes[province.code]

    def bare(self, module: str, counter: Counter) -> tuple[Process, Counter]:
        """A server that is no gateway, and how a counter reaches it."""
        if module not in self.processes:
            words = self.federation.naive_words(counter)
            process, address = self._opened.enter_context(
                self.federation.bare(module, on={self.cores.server}, words=words, profiled=self._profiled)
            )
            self.processes[module], self._bare[module] = process, address
        return self.processes[module], self.federation.at(counter, self._bare[module])

    # -- loads --------------------------------------------------------------------------------------------------------

    def raw(self, count: int) -> Sample:
        """Verify as many signatures as there would be credentials, and nothing else, on the server's core."""
        work = RawVerify(min(count, 1_000), RAW_BYTES)
        with pinned({self.cores.server}):
            began, used = time.perf_counter(), time.thread_time()
            for number in range(count):
                work.verify(number % min(count, 1_000))
            took, used = time.perf_counter() - began, time.thread_time() - used
        return Sample(per_s=count / took, server_us=used / count * 1e6, generator_share=0.0)

    def echo(self, count: int) -> Sample:
        """Have assertions echoed."""
        counter = self.federation.court(SQLITE)
        process, there = self.bare("bench.echo", counter)
        flow, sample = self._singles(process, there, self.mint.assertions(counter, count))
        require(sum(reply.status == STATUS_OK for reply in flow.replies), count)
        return sample

    def naive(self, count: int) -> Sample:
        """Have the naive peer verify assertions."""
        counter = self.federation.court(SQLITE)
        process, there = self.bare("bench.naive", counter)
        flow, sample = self._singles(process, there, self.mint.assertions(counter, count))
        require(accepted_singles(flow), count)
        return sample

    def unary(self, province: Province, count: int, held: Sequence[Held] | None = None) -> Sample:
        """Have a gateway verify assertions one by one; or these credentials."""
        process, counter, requests = self._presentations(province, count, held)
        flow, sample = self._singles(process, counter, requests)
        require(accepted_singles(flow), len(requests))
        return sample

    def batched(self, province: Province, size: int, count: int, held: Sequence[Held] | None = None) -> Sample:
        """Have a gateway verify assertions in batches; or these credentials."""
        process, counter, requests = self._presentations(province, count, held)
        many = batches(requests, size)
        with connected(counter.target, BATCH_CONNECTIONS) as connections:
            flow = Flow(BATCH, many, connections, in_flight=BATCH_IN_FLIGHT)
            cost, used = self._measured(process, lambda: run(flow))
        check(flow)
        require(accepted_batches(flow), len(requests))
        return _sample(cost, used, len(requests))

    def streamed(self, province: Province, count: int, held: Sequence[Held] | None = None) -> Sample:
        """Have a gateway verify assertions on one stream; or these credentials."""
        process, counter, requests = self._presentations(province, count, held)
        many = stream_messages(requests, STREAM_ITEMS)
        began = process.cpu_seconds()
        with pinned({self.cores.generator}):
            done = stream(counter.target, STREAM, many, ahead=STREAM_AHEAD)
        used = process.cpu_seconds() - began
        if done.status != STATUS_OK:
            raise LoadError(f"the stream ended with {done.status}")
        require(accepted_streamed(done.data), len(requests))
        return _sample(done.cost, used, len(requests))

    def _presentations(
        self, province: Province, count: int, held: Sequence[Held] | None
    ) -> tuple[Process, Counter, list[bytes]]:
        process = self.gateway(province)
        if held is None:
            counter = self.federation.court(province)
            return process, counter, self.mint.assertions(counter, count)
        counter = self.federation.household(province)
        return process, counter, self.mint.presented(counter, held)

    def _singles(self, process: Process, counter: Counter, requests: Sequence[bytes]) -> tuple[Flow, Sample]:
        with connected(counter.target, UNARY_CONNECTIONS) as connections:
            flow = Flow(VERIFY, singles(requests), connections, in_flight=UNARY_IN_FLIGHT)
            cost, used = self._measured(process, lambda: run(flow))
        check(flow)
        return flow, _sample(cost, used, len(requests))

    def _measured(self, process: Process, work: Callable[[], Cost]) -> tuple[Cost, float]:
        began = process.cpu_seconds()
        with pinned({self.cores.generator}):
            cost = work()
        return cost, process.cpu_seconds() - began


def _sample(cost: Cost, used: float, count: int) -> Sample:
    # The system counts in hundredths of a second; nothing takes no time.
    used = max(used, TICK_SECONDS)
    return Sample(per_s=count / cost.seconds, server_us=used / count * 1e6, generator_share=cost.generator_share)
