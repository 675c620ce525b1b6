// CPU features, as the compiler's runtime reads them (it asks the operating system about register state too).
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__)
inline int cpu_supports_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline int cpu_supports_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#else
inline int cpu_supports_avx2() { return 0; }
inline int cpu_supports_avx512() { return 0; }
#endif

#ifdef _OPENMP
inline int omp_threads() { return omp_get_max_threads(); }
#else
inline int omp_threads() { return 0; }
#endif
