// What happens when something touches memory that it must not.
#pragma once
#include <functional>
#include <string>

namespace hg {
// Runs device work. False when it touched memory it may not: then a message has named the work and
// the address, and nothing more of it runs.
bool run_guarded(const std::string& what, const std::function<void()>& work);
}  // namespace hg
