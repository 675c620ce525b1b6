// Scratch memory of a call: one aligned block, a slice a thread.
#pragma once
#include <cstdlib>
#include <new>
#include <utility>

#include "accounting.hpp"

namespace fastconv {

// Blocks that a thread's last calls dropped. Where malloc gives the top of its heap back to the system, each call would
// wait for its pages again (docs/performance.md).
class KeptBlocks {
public:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr idx LEAST = 0, MOST = -1;  // a block's end is checked
#else
    static constexpr idx LEAST = 64 << 10, MOST = 8 << 20;
#endif
    static constexpr int COUNT = 8;
    struct Block {
        void* memory = nullptr;
        idx bytes = 0;
    };
    ~KeptBlocks() {
        for (Block& b : blocks) free(b.memory);
    }
    // One that fits and is at most twice as large, or none.
    Block take(idx bytes) {
        for (Block& b : blocks)
            if (b.bytes >= bytes && b.bytes / 2 <= bytes) return std::exchange(b, Block{});
        return {};
    }
    void put(Block block) {
        if (block.bytes < LEAST || block.bytes > MOST) return free(block.memory);
        for (Block& b : blocks)
            if (!b.memory) return std::swap(b, block);
        free(std::exchange(blocks[next++ % COUNT], block).memory);
    }

private:
    Block blocks[COUNT];
    unsigned next = 0;
};
inline thread_local KeptBlocks kept_blocks;

class Workspace {
public:
    Workspace(idx bytes_per_thread, int threads)
        : slice((bytes_per_thread + 127) / 64 * 64), bytes(slice * threads), block(kept_blocks.take(bytes)) {
        if (!block.memory) block = {aligned_alloc(64, bytes), bytes};
        if (!block.memory) throw std::bad_alloc();
        if (accounting) accounting->allocated(bytes);
    }
    ~Workspace() {
        kept_blocks.put(block);
        if (accounting) accounting->freed(bytes);
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    char* of(int thread) const { return (char*)block.memory + slice * thread; }

private:
    idx slice, bytes;
    KeptBlocks::Block block;
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
