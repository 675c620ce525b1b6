// Memory of results, from a block store that all threads share. A NumPy memory handler (NEP 49): arrays made under it free
// their memory through it, whenever and wherever the last reference goes. It never waits: where another thread is at
// the store, or was when this process was forked, it goes to the system.
#pragma once
#include <atomic>
#include <cstring>

#include "block_store.hpp"

namespace fastconv {

typedef BlockStore<16, 128 << 20> ResultStore;

// Lets one thread at a time to the results; never destroyed, for arrays may outlive it.
class Results {
public:
    Results() : store(busy.test_and_set(std::memory_order_acquire) ? nullptr : &shared()) {}
    ~Results() {
        if (store) busy.clear(std::memory_order_release);
    }
    BlockHead* take(size_t size) { return store ? store->take(size) : nullptr; }
    void put(BlockHead* block) { store ? store->put(block) : free(block); }

private:
    static ResultStore& shared() {
        static ResultStore& store = *new ResultStore;
        return store;
    }
    static inline std::atomic_flag busy = ATOMIC_FLAG_INIT;
    ResultStore* store;
};

inline void* take_block(size_t size) {
    BlockHead* block = size < LEAST_KEPT ? nullptr : Results().take(size);
    if (!block) block = new_block(size);
    return block ? block->memory() : nullptr;
}

inline void* handler_malloc(void*, size_t size) { return take_block(size); }
inline void* handler_calloc(void*, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return nullptr;
    void* p = take_block(count * size);
    return p ? memset(p, 0, count * size) : p;
}
inline void handler_free(void*, void* p, size_t) {
    if (p) Results().put(BlockHead::of(p));
}
inline void* handler_realloc(void*, void* p, size_t size) {
    void* to = take_block(size);
    if (to && p) {
        const size_t had = BlockHead::of(p)->capacity;
        memcpy(to, p, had < size ? had : size);
        handler_free(nullptr, p, 0);
    }
    return to;
}

}  // namespace fastconv
