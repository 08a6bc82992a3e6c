"""Whatever is done to a store in whatever order, it has what a list would have."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.spools import reopened
from torchelastic_otel._delivery.spool import Held, Spool

SIGNALS = ("logs", "traces")
signals = st.sampled_from(SIGNALS)
some = st.sets(st.integers(1, 40))


class SpoolMachine(RuleBasedStateMachine):
    """A store beside a dictionary of its items."""

    @initialize(in_memory=st.booleans())
    def begin(self, in_memory: bool) -> None:
        """Make both."""
        self.directory = Path(tempfile.mkdtemp()) / "spool"
        self.spool = Spool.create_in_memory(1 << 20) if in_memory else self._on_disk()
        self.items: dict[int, tuple[str, int, bytes]] = {}
        self.held: dict[int, str] = {}
        self.scopes: dict[int, bytes] = {}

    def _on_disk(self) -> Spool:
        return Spool.create(self.directory, 1 << 20, {})

    @rule(signal=signals, sizes=st.lists(st.integers(0, 20_000), max_size=12), header=st.sampled_from(b"ab"))
    def add(self, signal: str, sizes: list[int], header: int) -> None:
        """Add a batch, be it an empty one."""
        scope = self.spool.scope(signal, bytes([header]))
        self.scopes[scope] = bytes([header])
        payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
        ids = self.spool.add(signal, scope, payloads, 1)
        assert min(ids, default=1) > max(self.items, default=0) or not ids
        self.items.update(
            {number: (signal, scope, payload) for number, payload in zip(ids, payloads, strict=True)}
        )

    @rule(ids=some)
    def remove(self, ids: set[int]) -> None:
        """Remove some, which may be gone or never were."""
        assert self.spool.remove(sorted(ids)) == len(ids & self.items.keys())
        for number in ids:
            self.items.pop(number, None)
            self.held.pop(number, None)

    @rule(ids=some, why=st.sampled_from(["why", "because"]))
    def hold(self, ids: set[int], why: str) -> None:
        """Hold some."""
        self.spool.hold(sorted(ids), why)
        self.held.update(dict.fromkeys(ids & self.items.keys(), why))

    @rule()
    def release(self) -> None:
        """Let all go again."""
        self.spool.release_held()
        self.held = {}

    @precondition(lambda self: not self.spool.in_memory and self.items)
    @rule()
    def reopen(self) -> None:
        """Leave it to the next owner."""
        self.spool.close()
        self.spool = reopened(self.spool.path)

    @precondition(lambda self: self.spool.in_memory)
    @rule()
    def move(self) -> None:
        """Move it to a disk."""
        self.spool.move_to(self._on_disk())
        assert not self.spool.in_memory

    @invariant()
    def has_what_it_was_given(self) -> None:
        """All of it, in order, and nothing else."""
        for signal in SIGNALS:
            found = {
                item.id: (item.signal, item.scope_id, item.payload)
                for item in self.spool.pending(signal, 0, 999)
            }
            expected = {
                number: item
                for number, item in self.items.items()
                if item[0] == signal and number not in self.held
            }
            assert list(found.items()) == list(expected.items())
        assert [item.id for item in self.spool.load(sorted(self.items, reverse=True))] == sorted(
            self.items, reverse=True
        )
        counts = {signal: len([1 for item in self.items.values() if item[0] == signal]) for signal in SIGNALS}
        assert self.spool.counts() == {signal: count for signal, count in counts.items() if count}
        held = {(self.items[number][0], why) for number, why in self.held.items()}
        assert {(each.signal, each.why) for each in self.spool.held()} == held
        assert sum(each.count for each in self.spool.held()) == len(self.held)
        assert all(isinstance(each, Held) for each in self.spool.held())
        assert {number: self.spool.header(number) for number in self.scopes} == self.scopes

    def teardown(self) -> None:
        """Leave nothing."""
        self.spool.discard()


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
