// Memory that was dropped, kept for what is allocated next: its pages need not be zeroed by the system again, which is
// what each call waits for where malloc gives the top of its heap back (docs/performance.md). Aligned to cache lines, so
// that no vector lies across two.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastconv {

constexpr size_t CACHE_LINE = 64, HUGE_PAGE = 2 << 20;
// Smaller blocks come quickly from malloc, without new pages.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t LEAST_KEPT = SIZE_MAX / 2;  // none is: a block's end is checked
#else
constexpr size_t LEAST_KEPT = 64 << 10;
#endif

// Lies before a block's first byte.
struct alignas(CACHE_LINE) BlockHead {
    size_t capacity;
    uint64_t dropped;  // when, to let go of the oldest first
    void* memory() { return this + 1; }
    static BlockHead* of(void* memory) { return (BlockHead*)memory - 1; }
};

// From the system; null if it has none.
inline BlockHead* new_block(size_t size) {
    if (size > SIZE_MAX / 2) return nullptr;
    const size_t align = size >= 2 * HUGE_PAGE && size >= LEAST_KEPT ? HUGE_PAGE : CACHE_LINE;
    const size_t bytes = (size + sizeof(BlockHead) + align - 1) & ~(align - 1);
    BlockHead* block = (BlockHead*)aligned_alloc(align, bytes);
    if (!block) return nullptr;
#if defined(__linux__)
    if (align == HUGE_PAGE) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    block->capacity = bytes - sizeof(BlockHead);
    return block;
}

// Keeps up to COUNT blocks, of at most MOST bytes in all. One thread at a time.
template <int COUNT, size_t MOST> class BlockStore {
public:
    BlockStore() = default;
    BlockStore(const BlockStore&) = delete;
    BlockStore& operator=(const BlockStore&) = delete;
    ~BlockStore() {
        while (count) free(remove(count - 1));
    }
    // The smallest block that fits and is at most twice as large, or null.
    BlockHead* take(size_t size) {
        int best = -1;
        for (int i = 0; i < count; i++) {
            const size_t capacity = blocks[i]->capacity;
            if (capacity >= size && capacity / 2 <= size && (best < 0 || capacity < blocks[best]->capacity)) best = i;
        }
        return best < 0 ? nullptr : remove(best);
    }
    // Keeps a block; what must go in its place, the oldest, goes to the system.
    void put(BlockHead* block) {
        if (block->capacity < LEAST_KEPT || block->capacity > MOST) return free(block);
        while (count == COUNT || kept + block->capacity > MOST) {
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
    BlockHead* remove(int i) {
        BlockHead* block = blocks[i];
        blocks[i] = blocks[--count];
        kept -= block->capacity;
        return block;
    }

    BlockHead* blocks[COUNT] = {};
    int count = 0;
    size_t kept = 0;
    uint64_t clock = 0;
};

}  // namespace fastconv
