// The one place that starts parallel work.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif
#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>

#include "accounting.hpp"

namespace fastconv {

// Below this much work per thread a parallel region costs more than it gains: entering one takes 1 to 7 us
// (docs/performance.md), a core does about 100 flops/ns, so 2e5 flops pay for it.
constexpr double MIN_FLOPS_PER_THREAD = 2e5;

// Threads worth starting for `jobs` independent pieces of `flops` in all.
inline int useful_threads(int threads, idx jobs, double flops) {
#ifdef _OPENMP
    double by_work = flops / MIN_FLOPS_PER_THREAD;
    if (threads > omp_get_max_threads()) threads = omp_get_max_threads();
    if (threads > jobs) threads = (int)jobs;
    if (threads > by_work) threads = (int)by_work;
    return threads < 1 ? 1 : threads;
#else
    (void)threads, (void)jobs, (void)flops;
    return 1;
#endif
}

// body(thread, threads) once on each thread. An exception may not leave an OpenMP region (it would end the process):
// the first is kept until all have ended.
template <class Body> inline void on_threads(int threads, Body body) {
    if (dry_run()) throw DryRunEnds();
#ifdef _OPENMP
    if (threads > 1) {
        std::exception_ptr error;
#pragma omp parallel num_threads(threads)
        try {
            body(omp_get_thread_num(), omp_get_num_threads());
        } catch (...) {
#pragma omp critical(fastconv_error)
            if (!error) error = std::current_exception();
        }
        if (error) std::rethrow_exception(error);
        return;
    }
#endif
    body(0, 1);
}

// body(first, end, thread) for ranges that make up 0 to count, of at most `most`. Each thread has an equal share, the same
// in every call, so that what it wrote last time lies in its caches; it takes a quarter of what is left of it at a time,
// and then of what others have left, so that all end together.
template <class Body> inline void parallel_ranges(idx count, int threads, idx most, Body body) {
    if (dry_run()) return;
    if (threads <= 1 || count <= 1) {
        for (idx first = 0; first < count; first += most) body(first, std::min(first + most, count), 0);
        return;
    }
    struct alignas(64) Share {
        std::atomic<idx> next;
        idx end;
    };
    const std::unique_ptr<Share[]> shares(new Share[threads]);
    for (int i = 0; i < threads; i++) shares[i].next = count * i / threads, shares[i].end = count * (i + 1) / threads;
    on_threads(threads, [&](int thread, int) {
        for (int other = 0; other < threads; other++) {
            Share& share = shares[(thread + other) % threads];
            idx first = share.next.load(std::memory_order_relaxed);
            while (first < share.end) {
                const idx end = first + std::min(most, std::max<idx>(1, (share.end - first) / 4));
                if (!share.next.compare_exchange_weak(first, end, std::memory_order_relaxed)) continue;
                body(first, end, thread);
                first = share.next.load(std::memory_order_relaxed);
            }
        }
    });
}

// body(job, thread) for jobs 0 to jobs - 1.
template <class Body> inline void parallel_for(idx jobs, int threads, Body body) {
    parallel_ranges(jobs, threads, jobs, [&](idx first, idx end, int thread) {
        for (idx job = first; job < end; job++) body(job, thread);
    });
}

}  // namespace fastconv
