// The one place that starts parallel work.
#pragma once
#ifdef _OPENMP
#include <omp.h>
#endif
#include <atomic>
#include <exception>

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

// body(job, thread) for jobs 0 to jobs - 1; idle threads take the next few, a sixteenth of their share.
template <class Body> inline void parallel_for(idx jobs, int threads, Body body) {
    if (dry_run()) return;
    if (threads <= 1 || jobs <= 1) {
        for (idx job = 0; job < jobs; job++) body(job, 0);
        return;
    }
    std::atomic<idx> next{0};
    const idx grain = 1 + jobs / (16 * threads);
    on_threads(threads, [&](int thread, int) {
        for (idx job; (job = next.fetch_add(grain, std::memory_order_relaxed)) < jobs;)
            for (idx end = job + grain < jobs ? job + grain : jobs; job < end; job++) body(job, thread);
    });
}

}  // namespace fastconv
