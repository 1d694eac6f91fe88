# build_id(): version, commit and compiler, written anew when the commit changes.
function(cohort_build_id room)
  set(generated ${CMAKE_BINARY_DIR}/generated/build_id.cpp)
  add_custom_target(cohort_build_id BYPRODUCTS ${generated}
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUTPUT=${generated}
            -DVERSION=${PROJECT_VERSION} -DTYPE=${CMAKE_BUILD_TYPE}
            "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
            -P ${CMAKE_SOURCE_DIR}/cmake/WriteBuildId.cmake
    VERBATIM)
  if(COHORT_SCOPE_${room} STREQUAL "PUBLIC")
    target_sources(cohort_${room} PRIVATE ${generated})
    add_dependencies(cohort_${room} cohort_build_id)
  endif()
endfunction()
