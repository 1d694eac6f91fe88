// Hand-offs by children: `cohort handoff` of one checkpoint at a time, at low priority.
#pragma once
#include "train/handoff.h"

namespace cohort {

// What HandoffMaker is for.
std::unique_ptr<Handoff> make_handoff(const HandoffConfig& config, const std::string& run);

}  // namespace cohort
