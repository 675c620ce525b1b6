// What a call allocates, told without computing: the kernel's own code plans and allocates, and its parallel work is
// left out. So the figure cannot drift from the allocation.
#pragma once
#include <exception>

#include "geometry.hpp"

namespace fastconv {

// Ends a dry run where the code that follows would read what the threads left.
struct DryRunEnds : std::exception {
    const char* what() const noexcept override { return "the dry run ends"; }
};

struct Accounting {
    bool dry;  // leaves out parallel work
    idx bytes = 0, most = 0;

    void allocated(idx count) {
        bytes += count;
        if (bytes > most) most = bytes;
    }
    void freed(idx count) { bytes -= count; }
};

// Of the calls that this thread makes; null as a rule.
inline thread_local Accounting* accounting = nullptr;
inline bool dry_run() { return accounting && accounting->dry; }

}  // namespace fastconv
