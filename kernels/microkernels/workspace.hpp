// Scratch memory of a call: one aligned block, a slice a thread.
#pragma once
#include <new>

#include "accounting.hpp"
#include "block_store.hpp"

namespace fastconv {

// What a thread's last calls dropped.
inline thread_local BlockStore<8, 32 << 20> dropped_workspaces;

class Workspace {
public:
    Workspace(idx bytes_per_thread, int threads)
        : slice((bytes_per_thread + 127) / 64 * 64), bytes(slice * threads), block(block_of(bytes)) {
        if (!block) throw std::bad_alloc();
        if (accounting) accounting->allocated(bytes);
    }
    ~Workspace() {
        if ((size_t)bytes < LEAST_KEPT)
            free(block);
        else
            dropped_workspaces.put(block);
        if (accounting) accounting->freed(bytes);
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    char* of(int thread) const { return (char*)block->memory() + slice * thread; }

private:
    static BlockHead* block_of(size_t size) {
        BlockHead* block = size < LEAST_KEPT ? nullptr : dropped_workspaces.take(size);
        return block ? block : new_block(size);
    }
    idx slice, bytes;
    BlockHead* block;
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
