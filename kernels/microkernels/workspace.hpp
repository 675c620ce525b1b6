// Scratch memory of a call: one aligned block, a slice a thread.
#pragma once
#include <cstdlib>
#include <new>

#include "accounting.hpp"

namespace fastconv {

class Workspace {
public:
    Workspace(idx bytes_per_thread, int threads)
        : slice((bytes_per_thread + 127) / 64 * 64), bytes(slice * threads), memory(aligned_alloc(64, bytes)) {
        if (!memory) throw std::bad_alloc();
        if (accounting) accounting->allocated(bytes);
    }
    ~Workspace() {
        free(memory);
        if (accounting) accounting->freed(bytes);
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    char* of(int thread) const { return (char*)memory + slice * thread; }

private:
    idx slice, bytes;
    void* memory;
};

// Hands out consecutive aligned arrays of a slice.
class Arena {
public:
    explicit Arena(char* p) : next(p) {}
    template <class T> T* take(idx count) {
        T* p = (T*)next;
        next += (count * sizeof(T) + 63) / 64 * 64;
        return p;
    }

private:
    char* next;
};

template <class T> constexpr idx padded_bytes(idx count) { return (count * sizeof(T) + 63) / 64 * 64; }

}  // namespace fastconv
