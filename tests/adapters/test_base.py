"""Patches go in and come out; hosts know their versions; calls are counted."""

import types

import numpy as np
import pytest

import fastconv as fc
from fastconv.adapters import HOSTS, __main__
from fastconv.adapters.base import (
    Adapter,
    Host,
    MissingHost,
    Patch,
    UnsupportedHost,
    by_rank,
    count_calls,
    or_else,
    require,
)

NUMPY = Host("NumPy", "numpy", "numpy", ("1.26", "2.99"))


@pytest.fixture
def owner():
    class Owner:
        @staticmethod
        def double(x):
            return 2 * x

        limit = 7

    return Owner


@pytest.fixture
def adapter(owner):
    def patches():
        return [
            Patch(owner, "double", lambda original: staticmethod(lambda x: ("fast", original(x)))),
            Patch(owner, "limit", lambda original: original + 1),
        ]

    return Adapter(NUMPY, patches)


def test_installation_replaces_and_uninstallation_restores_the_very_objects(owner, adapter):
    before = dict(vars(owner))
    adapter.install()
    assert owner.double(3) == ("fast", 6) and owner.limit == 8
    adapter.uninstall()
    assert dict(vars(owner)) == before
    assert owner.double(3) == 6


def test_installing_twice_is_harmless(owner, adapter):
    before = dict(vars(owner))
    adapter.install()
    adapter.install()
    assert owner.limit == 8
    adapter.uninstall()
    assert dict(vars(owner)) == before
    adapter.uninstall()
    assert dict(vars(owner)) == before


def test_a_with_block_leaves_what_it_found(owner, adapter):
    with adapter.installed():
        with adapter.installed():
            assert owner.limit == 8
        assert owner.limit == 8
    assert owner.limit == 7
    with pytest.raises(KeyError), adapter.installed():
        raise KeyError
    assert owner.limit == 7


def test_a_host_that_lost_a_function_is_left_untouched():
    module = types.ModuleType("moved")
    module.here = 1
    patches = [Patch(module, name, lambda original: 2) for name in ("here", "gone")]
    with pytest.raises(
        UnsupportedHost, match=r"NumPy .* has no moved\.gone: .* tested with NumPy 1\.26 to 2\.99"
    ):
        Adapter(NUMPY, lambda: patches).install()
    assert module.here == 1


@pytest.mark.parametrize(
    "host, remedy",
    [
        (Host("Nowhere", "no_such_module", "nowhere"), "pip install nowhere"),
        (Host("Course", "no_such_module"), "path"),
    ],
)
def test_a_missing_host_gives_one_sentence(host, remedy):
    for call in (lambda: require(host), Adapter(host, list).install):
        with pytest.raises(MissingHost, match=f"{host.name}, which is not installed: .*{remedy}") as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "version, supported",
    [
        ("2.2.9", False),
        ("2.3", True),
        ("2.4.0rc1", True),
        ("2.5.7", True),
        ("2.6", False),
        ("3.0", False),
        ("2.3rc1", True),
    ],
)
def test_supported_versions(monkeypatch, version, supported):
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    assert Host("NumPy", "numpy", "numpy", ("2.3", "2.5")).supported is supported


def test_the_fallback_answers_what_is_refused():
    def fast(x):
        if x < 0:
            raise ValueError
        return "fast"

    call = or_else(fast, lambda x: "host")
    assert [call(1), call(-1)] == ["fast", "host"]


def test_other_errors_are_not_hidden():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        or_else(broken, lambda: "host")()


def test_functions_by_rank():
    assert by_rank("conv{}d", 3) is fc.conv3d
    for rank in (0, 4):
        with pytest.raises(fc.UnsupportedProblem, match="spatial axes"):
            by_rank("conv{}d", rank)


def test_calls_are_counted_and_refused_ones_are_not():
    conv2d, x, w = fc.conv2d, np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    with count_calls() as calls:
        fc.conv2d(x, w)
        by_rank("conv{}d", 2)(x, w)
        with pytest.raises(ValueError):
            fc.conv2d(x, w[0])
    assert calls == {"conv2d": 2}
    assert fc.conv2d is conv2d


def test_the_table_lists_every_host(capsys):
    __main__.main()
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["module", "host", "installed", "tested", "with", "supported"]
    assert [row.split()[0] for row in rows] == list(HOSTS)
    assert all(any(word in row.split() for word in ("yes", "untested", "-")) for row in rows)
