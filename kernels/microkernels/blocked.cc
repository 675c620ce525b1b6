// The blocked kernel, compiled.
#include "blocked.hpp"
#include "entries.hpp"

namespace fastconv {

FASTCONV_PASSES(template, blocked, float)
FASTCONV_PASSES(template, blocked, double)
FASTCONV_PREPARED(template, blocked, float)
FASTCONV_PREPARED(template, blocked, double)
template idx blocked_prepared_elements<float>(const Geometry&, bool);
template idx blocked_prepared_elements<double>(const Geometry&, bool);
template double blocked_nanoseconds<float>(const Geometry&, bool);
template double blocked_nanoseconds<double>(const Geometry&, bool);

}  // namespace fastconv
