# Races in the product's kernels: compiled with ThreadSanitizer, run by the ops at small shapes.
if(NOT TARGET gpu_race)
  return()
endif()
set(sound $<TARGET_OBJECTS:cuda_parts_on_host>)
set(libraries $<TARGET_OBJECTS:gpu_on_host>)
add_executable(races races.cpp kernel_shapes.cpp
               $<FILTER:${sound},EXCLUDE,\\.cu|nccl|cuda_module>
               $<FILTER:${libraries},INCLUDE,cublaslt|cudnn>)
cohort_race_kernels(races ${COHORT_CUDA_KERNELS})
target_link_libraries(races PRIVATE op_cases)
add_test(NAME gpu.races COMMAND races)
set_tests_properties(gpu.races PROPERTIES TIMEOUT 300 PASS_REGULAR_EXPRESSION "ran [0-9]+ cases"
                     FAIL_REGULAR_EXPRESSION "ThreadSanitizer")
