# cohort_page(ROOM FILE): the text of FILE as page_html() of serve/page.h, so that a binary needs no
# files beside it.
function(cohort_page room file)
  set(generated ${CMAKE_BINARY_DIR}/generated/page.cpp)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${file})
  file(READ ${CMAKE_SOURCE_DIR}/${file} text)
  # In pieces: compilers need not take longer literals.
  string(LENGTH "${text}" length)
  set(pieces "")
  set(from 0)
  while(from LESS length)
    string(SUBSTRING "${text}" ${from} 8000 piece)
    string(APPEND pieces "R\"page(${piece})page\"\n")
    math(EXPR from "${from} + 8000")
  endwhile()
  file(CONFIGURE OUTPUT ${generated} CONTENT [[
#include "serve/page.h"

namespace cohort {
const char* page_html() {
  return
@pieces@;
}
}  // namespace cohort
]] @ONLY)
  target_sources(cohort_${room} PRIVATE ${generated})
endfunction()
