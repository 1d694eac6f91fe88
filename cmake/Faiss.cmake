# FAISS is optional: with it a bundle of a two-tower model has an index of its items. Its CMake file
# expects that OpenMP, BLAS and LAPACK were found before.
find_package(BLAS QUIET)
find_package(LAPACK QUIET)
if(BLAS_FOUND AND LAPACK_FOUND)
  find_package(faiss QUIET CONFIG)
endif()
set(index_sources ${CMAKE_SOURCE_DIR}/src/serve/item_index_faiss.cpp
                  ${CMAKE_SOURCE_DIR}/src/serve/item_index_none.cpp)
if(TARGET faiss)
  set(COHORT_FAISS faiss)
  list(POP_BACK index_sources unused)
else()
  set(COHORT_FAISS "")
  list(POP_FRONT index_sources unused)
endif()
set_source_files_properties(${unused} PROPERTIES HEADER_FILE_ONLY ON)
