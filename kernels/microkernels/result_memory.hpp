// Memory of results: aligned to cache lines, so that no vector is stored across two, and taken from results that
// were dropped before, so that their pages need not be zeroed by the system again.
//
// A NumPy memory handler (NEP 49): arrays made under it free their memory through it, whenever and wherever the last
// reference goes. It never waits: where another thread is at the store, it goes to the system.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastconv {

constexpr size_t LINE = 64, HUGE_PAGE = 2 << 20;
// Smaller blocks come quickly from malloc, without new pages.
constexpr size_t LEAST_KEPT = 64 << 10;
// What is kept for later results: at most this much in all, in this many blocks.
constexpr size_t MOST_KEPT = 128 << 20;
constexpr int BLOCKS_KEPT = 16;

// Lies before a block's first byte.
struct alignas(LINE) BlockHead {
    size_t capacity;
    uint64_t dropped;  // when, to let go of the oldest first
};

class BlockStore {
public:
    // The smallest block that fits and is at most twice as large.
    BlockHead* take(size_t size) {
        Lock lock(busy);
        if (!lock.held) return nullptr;
        int best = -1;
        for (int i = 0; i < count; i++) {
            const size_t capacity = blocks[i]->capacity;
            if (capacity >= size && capacity / 2 <= size && (best < 0 || capacity < blocks[best]->capacity)) best = i;
        }
        return best < 0 ? nullptr : remove(best);
    }
    // Keeps a block; what must go in its place, the oldest, goes to the system.
    void put(BlockHead* block) {
        if (block->capacity > MOST_KEPT) return free(block);
        Lock lock(busy);
        if (!lock.held) return free(block);
        while (count == BLOCKS_KEPT || kept + block->capacity > MOST_KEPT) {
            int oldest = 0;
            for (int i = 1; i < count; i++)
                if (blocks[i]->dropped < blocks[oldest]->dropped) oldest = i;
            free(remove(oldest));
        }
        block->dropped = ++clock;
        kept += block->capacity;
        blocks[count++] = block;
    }

private:
    struct Lock {
        std::atomic_flag& flag;
        const bool held;
        explicit Lock(std::atomic_flag& flag) : flag(flag), held(!flag.test_and_set(std::memory_order_acquire)) {}
        ~Lock() {
            if (held) flag.clear(std::memory_order_release);
        }
    };
    BlockHead* remove(int i) {
        BlockHead* block = blocks[i];
        blocks[i] = blocks[--count];
        kept -= block->capacity;
        return block;
    }

    std::atomic_flag busy = ATOMIC_FLAG_INIT;
    BlockHead* blocks[BLOCKS_KEPT];
    int count = 0;
    size_t kept = 0;
    uint64_t clock = 0;
};

inline BlockStore& block_store() {
    static BlockStore store;
    return store;
}

inline void* take_block(size_t size) {
    if (size > SIZE_MAX / 2) return nullptr;
    if (size >= LEAST_KEPT)
        if (BlockHead* block = block_store().take(size)) return block + 1;
    const size_t align = size >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE, bytes = (size + sizeof(BlockHead) + align - 1) / align * align;
    BlockHead* block = (BlockHead*)aligned_alloc(align, bytes);
    if (!block) return nullptr;
#if defined(__linux__)
    if (align == HUGE_PAGE) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    block->capacity = bytes - sizeof(BlockHead);
    return block + 1;
}

inline void* handler_malloc(void*, size_t size) { return take_block(size); }
inline void* handler_calloc(void*, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return nullptr;
    void* p = take_block(count * size);
    return p ? memset(p, 0, count * size) : p;
}
inline void handler_free(void*, void* p, size_t) {
    if (!p) return;
    BlockHead* block = (BlockHead*)p - 1;
    if (block->capacity >= LEAST_KEPT)
        block_store().put(block);
    else
        free(block);
}
inline void* handler_realloc(void*, void* p, size_t size) {
    void* to = take_block(size);
    if (to && p) {
        const size_t had = ((BlockHead*)p - 1)->capacity;
        memcpy(to, p, had < size ? had : size);
        handler_free(nullptr, p, 0);
    }
    return to;
}

}  // namespace fastconv
