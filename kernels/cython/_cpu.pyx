"""What the CPU and the operating system support; compiled for the baseline, so that it loads everywhere."""

cdef extern from "cpu.hpp" nogil:
    int cpu_supports_avx2()
    int cpu_supports_avx512()
    int omp_threads()


def supports(isa: str) -> bool:
    """True where code built for "avx512", "avx2" or "baseline" runs here."""
    if isa == "avx512":
        return cpu_supports_avx512() != 0
    if isa == "avx2":
        return cpu_supports_avx2() != 0
    return isa == "baseline"


def openmp_threads() -> int:
    """Threads OpenMP would use now (threadpoolctl may have lowered them); 0 without OpenMP."""
    return omp_threads()
