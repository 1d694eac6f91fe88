# OpenMP::OpenMP_CXX as GNU libgomp, whatever the compiler: oneDNN of the distributions runs on
# libgomp, and omp_set_num_threads must speak to that one. A second runtime (clang's libomp) in the
# process would leave oneDNN's threads as they are.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
else()
  file(GLOB gnu_folders LIST_DIRECTORIES true /usr/lib/gcc/*/*)
  list(SORT gnu_folders COMPARE NATURAL ORDER DESCENDING)
  find_library(COHORT_GOMP gomp HINTS ${gnu_folders} REQUIRED)
  # GNU's omp.h uses attributes that other compilers refuse: the calls that are used, declared.
  file(WRITE ${CMAKE_BINARY_DIR}/generated/gomp/omp.h [[
#pragma once
extern "C" {
void omp_set_num_threads(int threads);
int omp_get_max_threads(void);
}
]])
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)
  target_link_libraries(OpenMP::OpenMP_CXX INTERFACE ${COHORT_GOMP})
  target_include_directories(OpenMP::OpenMP_CXX SYSTEM INTERFACE
                             ${CMAKE_BINARY_DIR}/generated/gomp)
  set(OpenMP_CXX_LIBRARIES ${COHORT_GOMP})
endif()
