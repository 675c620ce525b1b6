"""pytest plugin for a host's own tests on fastconv: `pytest -p on_fastconv --adapter nengo --reached 9 ...`.

Equal results by the host's own code must not pass for a success: the run fails where fewer than `--reached`
tests called fastconv.
"""

import importlib

import pytest

from fastconv.adapters.base import count_calls

reached: set[str] = set()  # the tests that called fastconv


def pytest_addoption(parser):
    parser.addoption("--adapter", required=True, help="module of fastconv.adapters to install")
    parser.addoption("--reached", type=int, default=1, help="how many tests must call fastconv")


def pytest_configure(config):
    importlib.import_module(f"fastconv.adapters.{config.option.adapter}").install()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with count_calls() as calls:
        try:
            return (yield)
        finally:
            if calls:
                reached.add(item.nodeid)


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(f"{len(reached)} tests reached fastconv, {config.option.reached} must")


def pytest_sessionfinish(session):
    if len(reached) < session.config.option.reached and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
