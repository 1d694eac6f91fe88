# One static library per room, cohort_<room>. A room links all rooms declared before it.
set(COHORT_ROOMS "")

# The sources of a room, without main.cpp, the dispatched kernels and the module for GPUs.
function(cohort_room_sources room out)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${room}/*.cpp)
  list(FILTER sources EXCLUDE REGEX
       "/src/device/cpu/kernels/|/src/device/cuda/|/src/comm/nccl|_module\\.cpp$|/src/app/main\\.cpp$")
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

macro(cohort_room room)
  cohort_room_sources(${room} room_sources)
  set(room_links ${COHORT_ROOMS})
  list(REVERSE room_links)  # a static library stands before those that it uses
  list(TRANSFORM room_links PREPEND cohort_)
  if(room_sources)
    add_library(cohort_${room} STATIC ${room_sources})
    set(COHORT_SCOPE_${room} PUBLIC)
    target_link_libraries(cohort_${room} PUBLIC ${room_links} cohort_flags)
  else()  # nothing to compile yet
    add_library(cohort_${room} INTERFACE)
    set(COHORT_SCOPE_${room} INTERFACE)
    target_link_libraries(cohort_${room} INTERFACE ${room_links} cohort_flags)
  endif()
  list(APPEND COHORT_ROOMS ${room})
endmacro()

# What a room needs from outside; rooms to its right inherit it.
function(cohort_link room)
  target_link_libraries(cohort_${room} ${COHORT_SCOPE_${room}} ${ARGN})
endfunction()

# The files of `folder` three times over, for the instruction sets that one binary carries.
# COHORT_ISA is baseline, avx2 or avx512: use it as a namespace.
function(cohort_kernels folder)
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.cpp)
  if(NOT kernels)
    return()
  endif()
  set(flags_baseline "")
  set(flags_avx2 -march=x86-64-v3)
  set(flags_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  foreach(isa baseline avx2 avx512)
    add_library(cohort_kernels_${isa} OBJECT ${kernels})
    target_compile_definitions(cohort_kernels_${isa} PRIVATE COHORT_ISA=${isa})
    target_compile_options(cohort_kernels_${isa} PRIVATE -O3 -fno-math-errno -fno-trapping-math
                           -ffp-contract=fast ${flags_${isa}})
    target_link_libraries(cohort_kernels_${isa} PRIVATE cohort_flags fmt::fmt)
    target_sources(cohort_device PRIVATE $<TARGET_OBJECTS:cohort_kernels_${isa}>)
  endforeach()
endfunction()
