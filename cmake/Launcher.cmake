# COHORT_MPIEXEC: how tests and launch scripts start ranks. MPICH's launcher kills what is left of a
# job the moment a rank is lost; told not to, the other ranks say which one it was and end.
set(COHORT_MPIEXEC ${MPIEXEC_EXECUTABLE} CACHE INTERNAL "")
execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE version ERROR_QUIET)
if(version MATCHES "HYDRA")
  set(COHORT_MPIEXEC ${CMAKE_BINARY_DIR}/mpiexec CACHE INTERNAL "")
  file(WRITE ${COHORT_MPIEXEC}
       "#!/bin/sh\nexec '${MPIEXEC_EXECUTABLE}' -disable-auto-cleanup \"$@\"\n")
  file(CHMOD ${COHORT_MPIEXEC} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ
       GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endif()
