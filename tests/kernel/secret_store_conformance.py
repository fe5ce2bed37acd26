"""What every store of secrets does alike. Subclass it, and supply the fixtures `store` and `reference`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from msp import log
from msp.clock import utc_now
from msp.errors import Conflict, NotFound
from msp.secret import Secret
from msp.secret_store.reference import Reference
from msp.secret_store.store import SecretStore

HARD = "pä55 'word\" $(id) `x`\\ \nsecond line\t€"


def at(reference: Reference, which: str) -> Reference:
    return replace(reference, which=which)


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collect what is logged as it would be written."""
    lines: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(log.JsonLines().format(record))

    handler = Collecting()
    logging.getLogger().addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(handler)


class SecretStoreConformance:
    def test_gives_back_exactly_what_was_put(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret(HARD))
        kept = store.get(reference)
        assert kept.value.value == HARD
        assert kept.changed_at is not None
        assert abs(utc_now() - kept.changed_at) < timedelta(minutes=1)

    def test_what_is_not_there_is_not_found(self, store: SecretStore, reference: Reference) -> None:
        for attempt in (store.get, store.promote, store.delete):
            with pytest.raises(NotFound):
                attempt(reference)
        with pytest.raises(NotFound):
            store.stage(reference, Secret("later-1234"))

    def test_a_staged_value_is_not_in_force(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        assert store.get(reference).value.value == "first-1234"
        assert store.get(at(reference, "next")).value.value == "second-1234"
        with pytest.raises(NotFound):
            store.get(at(reference, "previous"))

    def test_only_one_value_is_staged_at_a_time(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        with pytest.raises(Conflict):
            store.stage(reference, Secret("third-1234"))
        assert store.get(at(reference, "next")).value.value == "second-1234"

    def test_a_promoted_value_is_in_force_and_the_old_one_is_kept(
        self, store: SecretStore, reference: Reference
    ) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        store.promote(reference)
        assert store.get(reference).value.value == "second-1234"
        assert store.get(at(reference, "previous")).value.value == "first-1234"
        with pytest.raises(NotFound):
            store.get(at(reference, "next"))
        with pytest.raises(NotFound):
            store.promote(reference)

    def test_a_dropped_value_is_gone_and_may_be_dropped_again(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        for _ in range(2):
            store.drop(at(reference, "next"))
        with pytest.raises(NotFound):
            store.get(at(reference, "next"))
        assert store.get(reference).value.value == "first-1234"
        store.stage(reference, Secret("third-1234"))

    def test_putting_ends_what_was_staged(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        store.put(reference, Secret("third-1234"))
        with pytest.raises(NotFound):
            store.get(at(reference, "next"))

    def test_a_deleted_secret_is_gone_and_can_be_put_again(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("first-1234"))
        store.stage(reference, Secret("second-1234"))
        store.delete(reference)
        for which in ("current", "next"):
            with pytest.raises(NotFound):
                store.get(at(reference, which))
        store.put(reference, Secret("again-1234"))
        assert store.get(reference).value.value == "again-1234"

    def test_what_was_given_out_is_masked_in_the_log(self, store: SecretStore, reference: Reference) -> None:
        store.put(reference, Secret("never-in-a-log-77"))
        value = store.get(reference).value
        with logged() as lines:
            logging.getLogger("test").warning("it is %s, shown as %s", value.value, value)
        assert lines
        assert "never-in-a-log-77" not in "".join(lines)
