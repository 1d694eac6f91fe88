# A target mutant_NAME for each fault of mutations.txt: test_cuda_on_host with this fault, built only
# when asked.
set(list ${CMAKE_CURRENT_SOURCE_DIR}/mutations.txt)
set(mutate ${CMAKE_CURRENT_SOURCE_DIR}/mutate.sh)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${list})

# cohort_mutant(NAME FILE [UNIT...]): UNITs are compiled with the faulty FILE, in place of the sound.
function(cohort_mutant name file)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name})
  add_custom_command(OUTPUT ${folder}/${file} DEPENDS ${list} ${mutate} ${CMAKE_SOURCE_DIR}/src/${file}
                     COMMAND bash ${mutate} ${name} ${CMAKE_SOURCE_DIR}/src/${file} ${folder}/${file})
  set(sound $<TARGET_OBJECTS:cuda_parts_on_host>)
  set(target mutant_${name})
  add_library(${target}_units OBJECT EXCLUDE_FROM_ALL ${folder}/${file})
  list(TRANSFORM ARGN PREPEND ${CMAKE_SOURCE_DIR}/src/ OUTPUT_VARIABLE units)
  if(NOT units)
    set(units ${folder}/${file})
  endif()
  foreach(unit ${units})
    get_filename_component(base ${unit} NAME)
    set(sound $<FILTER:${sound},EXCLUDE,/${base}${CMAKE_CXX_OUTPUT_EXTENSION}$>)
    if(unit MATCHES "\\.cu$")
      cohort_on_host_kernels(${target}_units ${unit})
    else()
      target_sources(${target}_units PRIVATE ${unit})
    endif()
  endforeach()
  target_include_directories(${target}_units BEFORE PRIVATE ${folder})
  # Soon built; a fault may leave things unused.
  target_compile_options(${target}_units PRIVATE -O1 -w)
  target_link_libraries(${target}_units PRIVATE gpu_on_host cohort_plan)
  # First of all: of templates that several objects hold the first is taken.
  add_executable(${target} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${target}_units> ${sound}
                 $<TARGET_OBJECTS:test_cuda_on_host>)
  target_link_libraries(${target} PRIVATE gpu_on_host op_cases oracle_checks cohort_plan
                        GTest::gmock_main)
endfunction()

file(STRINGS ${list} mutants REGEX "^mutant ")
foreach(mutant ${mutants})
  separate_arguments(words UNIX_COMMAND "${mutant}")
  list(POP_FRONT words mutant name file)
  cohort_mutant(${name} ${file} ${words})
endforeach()

# Two of them with every run of the tests; launch/prove mutations takes all.
add_test(NAME gpu.mutations COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/mutations.sh ${CMAKE_COMMAND}
         ${CMAKE_BINARY_DIR} send_not_awaited pool_values_barrier)
set_tests_properties(gpu.mutations PROPERTIES TIMEOUT 300)
