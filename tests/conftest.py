"""Has `make test` run three files at a time, two that fill a processor, and nothing beside what must be alone."""

import gc
import os
from collections.abc import Generator, Mapping

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from tests import interrupts, tiers, turns


class Lanes(LoadFileScheduling):
    """Lanes instead of files. The groups of xdist 3.8 do nothing with pytest 9.2 (pytest-xdist issue 1386)."""

    def _split_scope(self, nodeid: str) -> str:
        return tiers.lane(super()._split_scope(nodeid))

    def _assign_work_unit(self, node: WorkerController) -> None:
        """Give a worker the lane that suits what the others have, in place of the next one."""
        others = [self._newest(lanes) for worker, lanes in self.assigned_work.items() if worker is not node]
        self.workqueue.move_to_end(tiers.next_lane(self.workqueue, filter(None, others)), last=False)
        super()._assign_work_unit(node)

    @staticmethod
    def _newest(lanes: Mapping[str, Mapping[str, bool]]) -> str | None:
        """The lane that a worker has, or begins after two more tests; None when its last has ended."""
        return next((lane for lane in reversed(lanes) if not all(lanes[lane].values())), None)


def pytest_configure() -> None:
    """Also in each worker, which has the signals of the shell that began all of it."""
    interrupts.heed()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One more than there are processors, where files are kept together: many of those tests wait."""
    return (os.cpu_count() or 1) + 1 if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Lanes where files were to be kept together."""
    return Lanes(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests of a wrong tier. Longest tiers first; within a tier the order of files and tests stays."""
    if faults := [fault for fault in map(tiers.fault, items) if fault]:
        raise pytest.UsageError("\n".join(faults))
    order = (*tiers.TIERS, tiers.FAST)
    items.sort(key=lambda item: order.index(tiers.tier(item)))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass by all that was loaded: it finds nothing there, and forked children would copy it."""
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the time that a test may take begins after its turn has come
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the turn of a test, where workers run beside each other."""
    worker = getattr(item.config, "workerinput", None)
    if worker is None:
        return (yield)
    with turns.turn(str(worker["testrunuid"]), alone=item.get_closest_marker("alone") is not None):
        return (yield)
