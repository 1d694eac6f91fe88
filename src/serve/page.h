// The page for people: page.html, which the build puts into the program.
#pragma once

namespace cohort {
const char* page_html();
}  // namespace cohort
