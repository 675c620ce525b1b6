"""Compile the Cython kernels: one module per instruction set, all from the same sources.

Everything else is in pyproject.toml. A machine without a C++ compiler installs the pure Python package.
Environment variables of a build, for developers:

    FASTCONV_REQUIRE_COMPILED=1   fail where the kernels do not compile
    FASTCONV_NO_OPENMP=1          build without OpenMP
    FASTCONV_BUILD_ISAS=...       only these of avx512, avx2, baseline
    FASTCONV_BUILD_FLAGS=...      last flags of every compiler and linker call ("-fsanitize=address")
    FASTCONV_BOUNDSCHECK=1        Cython checks the bounds of every array access
"""

import copy
import os
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine().lower() in ("x86_64", "amd64")
ISA_FLAGS = {"_baseline": []}
if X86:
    # prefetchw: lines that a tile will write come as its own, also from another core that wrote them last
    ISA_FLAGS["_avx2"] = ["-mavx2", "-mfma", "-mprfchw"]
    ISA_FLAGS["_avx512"] = [
        *("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprfchw"),
        "-mprefer-vector-width=512",
    ]
if "FASTCONV_BUILD_ISAS" in os.environ:
    chosen = os.environ["FASTCONV_BUILD_ISAS"].split(",")
    ISA_FLAGS = {name: flags for name, flags in ISA_FLAGS.items() if name[1:] in chosen}
CHECKED = os.environ.get("FASTCONV_BOUNDSCHECK") == "1"
FLAGS = [
    "-std=gnu++17",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-g0",
]
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-function", "-Wno-psabi", "-Wno-cpp"]
LAST_FLAGS = os.environ.get("FASTCONV_BUILD_FLAGS", "").split()


# C++ that is compiled beside the wrapper, what takes longest first.
UNITS = [f"kernels/microkernels/{name}.cc" for name in ("blocked", "pool", "depthwise", "winograd", "direct")]


def extension(name: str, isa_flags: list[str], units: list[str]) -> Extension:
    ext = Extension(
        f"fastconv.kernels.cython.{name}",
        [*units, f"kernels/cython/{name}.pyx"],
        include_dirs=["kernels/microkernels", np.get_include()],
        depends=[str(p) for d in ("cython/*.pxi", "microkernels/*.hpp") for p in Path("kernels").glob(d)],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_1_23_API_VERSION"),  # memory handlers
        ],
        extra_compile_args=FLAGS + WARNINGS + isa_flags + LAST_FLAGS,
        extra_link_args=LAST_FLAGS,
        language="c++",
        optional=os.environ.get("FASTCONV_REQUIRE_COMPILED") != "1",
    )
    directives = {"boundscheck": CHECKED, "wraparound": CHECKED, "initializedcheck": CHECKED}
    # no state of its own but constants: free-threaded Python may call in from many threads
    directives["freethreading_compatible"] = True
    ext.cython_directives = {"language_level": 3, "cdivision": True, **directives}
    return ext


class BuildExt(build_ext):
    """Compile all units of all extensions in parallel, with OpenMP where the compiler has it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = len(self.extensions)

    def build_extensions(self) -> None:
        if os.environ.get("FASTCONV_NO_OPENMP") != "1" and self.has_openmp():
            for ext in self.extensions:
                ext.extra_compile_args.append("-fopenmp")
                ext.extra_link_args.append("-fopenmp")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.compiler.compile = in_pool(pool, self.compiler.compile)
            super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name)  # a unit's objects for each instruction set
        super(BuildExt, own).build_extension(ext)

    def has_openmp(self) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "openmp.cpp")
            source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=["-fopenmp"])
                self.compiler.link_executable(
                    objects, str(Path(folder, "openmp")), extra_postargs=["-fopenmp"]
                )
            except Exception:  # every compiler class has its own error; any of them means no OpenMP
                return False
        return True


def in_pool(pool: ThreadPoolExecutor, compile: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """A compiler's method `compile`, each source in a process that the pool waits for."""

    def compile_all(sources: list[str], **options: Any) -> list[str]:
        objects = pool.map(lambda source: compile([source], **options), sources)
        return [name for names in objects for name in names]

    return compile_all


setup(
    ext_modules=[
        extension("_cpu", [], []),
        *(extension(name, flags, UNITS) for name, flags in ISA_FLAGS.items()),
    ],
    cmdclass={"build_ext": BuildExt},
)
