"""What every adapter shares: the hosts and their versions, putting patches in and taking them out again."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import FunctionType
from typing import Any, NamedTuple

import fastconv
from fastconv.ops.errors import UnsupportedProblem


class MissingHost(ImportError):
    """The package that an adapter speeds up is not installed."""


class UnsupportedHost(RuntimeError):
    """The host is installed, but what the adapter replaces is not where it was; the message says what."""


@dataclass(frozen=True)
class Host:
    """A package that can run on fastconv.

    `versions` are the first and the last one that the adapter was tested with. A host without `package` (the
    name on PyPI) is source code that its users copy.
    """

    name: str
    module: str
    package: str | None = None
    versions: tuple[str, str] = ("", "")

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str | None:
        """The installed version; None where the host is not installed or has no versions."""
        return importlib.metadata.version(self.package) if self.package and self.installed else None

    @property
    def supported(self) -> bool:
        """Whether the installed version lies within the tested ones (any 2.5.x is a 2.5)."""
        if self.version is None:
            return self.installed
        first, last = map(_numbers, self.versions)
        version = _numbers(self.version)
        return first <= version and version[: len(last)] <= last

    @property
    def tested(self) -> str:
        """The tested versions, for people: "2.3 to 2.5"."""
        first, last = self.versions
        return first if first == last else f"{first} to {last}"


class Patch(NamedTuple):
    """Replace ``owner.name`` with ``replacement(original)``; the original serves as the fallback."""

    owner: Any
    name: str
    replacement: Callable[[Any], Any]


class Adapter:
    """The three functions of an adapter's module: `install`, `uninstall` and `installed`.

    `patches` names what to replace, when asked: it may import the host.
    """

    def __init__(self, host: Host, patches: Callable[[], Sequence[Patch]]) -> None:
        self.host = host
        self._patches = patches
        self._originals: list[tuple[Any, str, Any]] = []  # (owner, name, original), in the order installed
        self._lock = threading.RLock()

    def install(self) -> None:
        """Let the host run on fastconv, until `uninstall`. Installing twice is harmless.

        Raises
        ------
        MissingHost
            The host is not installed.
        UnsupportedHost
            This version of the host no longer has what the adapter replaces. Nothing was replaced then.
        """
        with self._lock:
            if self._originals:
                return
            require(self.host)
            patches = self._patches()
            originals = [(patch.owner, patch.name, self._original(patch)) for patch in patches]
            for patch, (owner, name, original) in zip(patches, originals, strict=True):
                setattr(owner, name, patch.replacement(original))
            self._originals = originals

    def uninstall(self) -> None:
        """Put the host's own objects back. Harmless where nothing is installed."""
        with self._lock:
            while self._originals:
                setattr(*self._originals.pop())

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Install for the length of a `with` block; what was installed before it stays installed after it."""
        before = bool(self._originals)
        self.install()
        try:
            yield
        finally:
            if not before:
                self.uninstall()

    def _original(self, patch: Patch) -> Any:
        try:
            return vars(patch.owner)[patch.name]  # not getattr, which would unwrap a staticmethod
        except KeyError:
            host, where = self.host, getattr(patch.owner, "__name__", patch.owner)
            raise UnsupportedHost(
                f"{host.name} {host.version or ''} has no {where}.{patch.name}: "
                f"this adapter was tested with {host.name} {host.tested}"
            ) from None


def require(host: Host) -> Any:
    """The host's module, or MissingHost with one sentence that says what to install."""
    if host.installed:
        return importlib.import_module(host.module)
    remedy = f"pip install {host.package}" if host.package else f"put {host.module} on the import path"
    raise MissingHost(f"this adapter needs {host.name}, which is not installed: {remedy}")


def or_else(fast: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """`fast`, and `original` for what it refuses: fastconv's functions raise before any work."""

    @wraps(original)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return fast(*args, **options)
        except (ValueError, TypeError):
            return original(*args, **options)

    return call


def by_rank(name: str, rank: int) -> Any:
    """``fc.conv2d`` for "conv{}d" and 2 spatial axes; UnsupportedProblem where there is none."""
    if not 1 <= rank <= 3:
        raise UnsupportedProblem(f"{name.format('N')}: {rank} spatial axes: fastconv has 1, 2 and 3")
    return getattr(fastconv, name.format(rank))


@contextmanager
def count_calls() -> Iterator[Counter[str]]:
    """Count the calls of fastconv's public functions within a `with` block: proof that a host reached them.

    Adapters must call them as attributes, ``fc.conv2d(...)``, to be seen.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> with count_calls() as calls:
    ...     y = fc.max_pool2d(np.zeros((1, 1, 4, 4), np.float32), 2)
    >>> calls
    Counter({'max_pool2d': 1})
    """
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            calls[name] += 1  # a refused call does not count: the host's code answers it
            return result

        return call

    public = {name: getattr(fastconv, name) for name in fastconv.__all__}
    functions = {name: public[name] for name in public if isinstance(public[name], FunctionType)}
    vars(fastconv).update({name: counted(name, function) for name, function in functions.items()})
    try:
        yield calls
    finally:
        vars(fastconv).update(functions)


def _numbers(version: str) -> tuple[int, ...]:
    """ "2.5.1rc1" -> (2, 5, 1)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+-]", version)[0]))
