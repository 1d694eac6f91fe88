# libcohort_cuda.so: what is for NVIDIA GPUs alone, in a module that the program loads when asked.
# It takes the functions of the rooms from the program, so that errors and logs are the same ones.
file(GLOB COHORT_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/device/cuda/*.cpp
     ${CMAKE_SOURCE_DIR}/src/comm/nccl*.cpp ${CMAKE_SOURCE_DIR}/src/comm/cuda_module.cpp)
file(GLOB COHORT_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/device/cuda/*.cu)

# cohort_loads_cuda(TARGET): a program that may load the module. It holds the rooms whole and shows
# their symbols.
function(cohort_loads_cuda target)
  set(archives "")
  foreach(room base tensor fields model device comm)
    list(APPEND archives $<TARGET_FILE:cohort_${room}>)
  endforeach()
  set_target_properties(${target} PROPERTIES ENABLE_EXPORTS ON)
  target_link_options(${target} PRIVATE LINKER:--whole-archive ${archives}
                      LINKER:--no-whole-archive)
endfunction()

# What both builds of the module have in common: this one and the one of the tests.
function(cohort_cuda_module_properties target)
  set_target_properties(${target} PROPERTIES PREFIX lib LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
                        POSITION_INDEPENDENT_CODE ON INSTALL_RPATH_USE_LINK_PATH ON)
  target_link_libraries(${target} PRIVATE cohort_flags fmt::fmt)
endfunction()

if(COHORT_CUDA_FOUND)
  add_library(cohort_cuda MODULE EXCLUDE_FROM_ALL ${COHORT_CUDA_SOURCES} ${COHORT_CUDA_KERNELS})
  cohort_cuda_module_properties(cohort_cuda)
  target_link_libraries(cohort_cuda PRIVATE cohort_cuda_libraries)
  # Deprecated are the oldest architectures, as long as nvcc builds for them at all.
  target_compile_options(cohort_cuda PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Wno-deprecated-gpu-targets;-Xcompiler=-Wall,-Wextra>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${COHORT_WERROR}>>:-Werror=all-warnings;-Xcompiler=-Werror>")
endif()
