// The speed of light: multiply-adds on registers alone, as many in flight as the tile kernels have.
#pragma once
#include <ctime>

#include "vec.hpp"

namespace fastconv {

// The constraint that names a vector register.
#if defined(__x86_64__)
#define FASTCONV_VECTOR_REGISTER "+v"
#else
#define FASTCONV_VECTOR_REGISTER "+w"
#endif

inline double thread_seconds() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// GFLOP/s of one thread, the best of several bursts of about a millisecond each of the thread's own time.
template <class T> double fma_gflops() {
    constexpr int SUMS = 12, ROUNDS = 20000, BURSTS = 12;
    double best = 0;
    Vec<T> sums[SUMS] = {}, factor = broadcast(T(0.5));
    for (int burst = 0; burst < BURSTS; burst++) {
        const double start = thread_seconds();
        for (int i = 0; i < ROUNDS; i++)
            for (int j = 0; j < SUMS; j++) {
                sums[j] = sums[j] * factor + factor;
                asm volatile("" : FASTCONV_VECTOR_REGISTER(sums[j]));  // keeps the compiler from folding the rounds together
            }
        const double rate = 2.0 * LANES<T> * SUMS * ROUNDS / (thread_seconds() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

}  // namespace fastconv
