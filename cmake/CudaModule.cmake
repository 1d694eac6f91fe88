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

# cohort_cuda_module(TARGET PARTS): the module TARGET from the objects of PARTS.
function(cohort_cuda_module target parts)
  add_library(${target} MODULE $<TARGET_OBJECTS:${parts}>)
  set_target_properties(${target} PROPERTIES PREFIX lib LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}
                        LINKER_LANGUAGE CXX INSTALL_RPATH_USE_LINK_PATH ON)
  target_link_libraries(${target} PRIVATE cohort_flags fmt::fmt ${ARGN})
endfunction()

if(COHORT_CUDA_FOUND)
  add_library(cuda_parts OBJECT ${COHORT_CUDA_SOURCES} ${COHORT_CUDA_KERNELS})
  set_target_properties(cuda_parts PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(cuda_parts PUBLIC cohort_cuda_libraries cohort_flags fmt::fmt)
  # Deprecated are the oldest architectures, as long as nvcc builds for them at all.
  target_compile_options(cuda_parts PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Wno-deprecated-gpu-targets;-Xcompiler=-Wall,-Wextra>"
    "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${COHORT_WERROR}>>:-Werror=all-warnings;-Xcompiler=-Werror>")
  cohort_cuda_module(cohort_cuda cuda_parts cohort_cuda_libraries)
  install(TARGETS cohort_cuda LIBRARY DESTINATION lib)
endif()
