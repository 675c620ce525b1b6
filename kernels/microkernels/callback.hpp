// Jobs that are C functions known by address: how the Numba kernels share this package's threads.
#pragma once
#include <cstdint>

#include "parallel.hpp"

namespace fastconv {

typedef void (*JobFunction)(idx begin, idx end, idx thread, const void* arguments);

inline void run_jobs(std::uintptr_t function, std::uintptr_t arguments, idx jobs, int threads) {
    JobFunction run = reinterpret_cast<JobFunction>(function);
    const void* args = reinterpret_cast<const void*>(arguments);
    if (threads <= 1)
        run(0, jobs, 0, args);
    else
        parallel_for(jobs, threads, [&](idx job, int thread) { run(job, job + 1, thread, args); });
}

}  // namespace fastconv
