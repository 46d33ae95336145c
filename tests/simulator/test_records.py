"""Signals, and what is kept of requests."""

import asyncio
import threading

import pytest

from lamella.simulator.records import ReceivedRequest, Records, Signal


def record() -> ReceivedRequest:
    return ReceivedRequest('POST', '/x?key=secret', {'authorization': 'Bearer secret', 'accept': '*/*'})


def test_repr_masks_credentials_and_attributes_keep_them() -> None:
    assert 'secret' not in repr(record())
    assert '*/*' in repr(record())
    assert record().headers['authorization'] == 'Bearer secret'


async def test_a_signal_is_false_then_true_and_wakes_all_who_wait() -> None:
    signal = Signal()
    assert not signal
    waiting = [asyncio.create_task(wait_for(signal)) for _ in range(3)]
    await asyncio.sleep(0)
    signal.set()
    signal.set()
    await asyncio.gather(*waiting)
    assert signal
    await signal


async def wait_for(signal: Signal) -> None:
    await signal


async def test_giving_up_on_a_signal_harms_no_other_waiter() -> None:
    signal = Signal()
    patient, impatient = (asyncio.create_task(wait_for(signal)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert not signal
    signal.set()
    await patient


def test_a_signal_crosses_threads() -> None:
    signal = Signal()
    thread = threading.Thread(target=signal.set)
    thread.start()
    signal.wait(timeout=30)
    thread.join()
    assert signal


def test_waiting_in_a_thread_has_an_end() -> None:
    with pytest.raises(TimeoutError):
        Signal().wait(timeout=0)


def test_the_last_ones_are_kept_and_all_are_counted() -> None:
    records = Records(2)
    third, first = records.arrived(3), records.arrived(1)
    for _ in range(2):
        records.add(record())
    assert (bool(first), bool(third)) == (True, False)
    last = record()
    records.add(last)
    assert third
    assert records.kept[-1] is last
    assert (len(records.kept), records.total) == (2, 3)
    assert records.arrived(2)


def test_after_clearing_requests_are_counted_anew() -> None:
    records = Records(9)
    records.add(record())
    records.clear()
    again = records.arrived(1)
    assert not again
    records.add(record())
    assert again
