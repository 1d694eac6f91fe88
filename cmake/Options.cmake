# The compilers whose warnings were looked at; another may know more of them.
set(known OFF)
if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 15) OR
   (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 20))
  set(known ON)
endif()
option(COHORT_WERROR "Warnings are errors" ${known})
option(COHORT_BUILD_TESTS "Build the tests" ON)
set(COHORT_SANITIZE "" CACHE STRING "Empty, address;undefined or thread")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
find_program(COHORT_CCACHE ccache)
if(COHORT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${COHORT_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${COHORT_CCACHE})
endif()

# What every target of this project is compiled with.
add_library(cohort_flags INTERFACE)
target_include_directories(cohort_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(cohort_flags INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # -Wrestrict: false alarms of g++ 12 on "text" + std::string at -O3.
  set(shadow -Wshadow=local -Wno-restrict)
else()
  # std::stable_sort of libstdc++ 12 calls a function that it declares deprecated.
  set(shadow -Wshadow -Wno-deprecated-declarations)
endif()
set(warnings -Wall -Wextra ${shadow})
if(COHORT_WERROR)
  list(APPEND warnings -Werror)
endif()
target_compile_options(cohort_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${warnings}>")
if(COHORT_SANITIZE)
  list(JOIN COHORT_SANITIZE "," sanitizers)
  target_compile_options(cohort_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${sanitizers};-fno-omit-frame-pointer>")
  if("undefined" IN_LIST COHORT_SANITIZE)
    target_compile_options(cohort_flags INTERFACE
                           $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize-recover=undefined>)
  endif()
  target_link_options(cohort_flags INTERFACE -fsanitize=${sanitizers})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # False alarms of g++ 12 inside the standard library once it is instrumented.
    target_compile_options(cohort_flags INTERFACE
                           "$<$<COMPILE_LANGUAGE:C,CXX>:-Wno-maybe-uninitialized;-Wno-tsan>")
  endif()
endif()
