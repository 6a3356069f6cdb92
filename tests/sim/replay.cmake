# A history of the simulation is the same each time, wherever its objects stand in memory: else a failing
# seed can't be looked into.   cmake -DSIM=PROGRAM -DSEED=N -P replay.cmake
string(REPEAT "[0-9a-f]" 32 client_id) # drawn anew in each run
foreach(run first second)
  execute_process(COMMAND "${SIM}" --seed "${SEED}" --count 1 -v OUTPUT_VARIABLE output ERROR_QUIET
    RESULT_VARIABLE result)
  string(LENGTH "${output}" length)
  if(NOT result EQUAL 0 OR length LESS 10000)
    message(FATAL_ERROR "sim --seed ${SEED} exited with ${result} after ${length} bytes of output")
  endif()
  string(REGEX REPLACE "${client_id}" "CLIENT" output "${output}")
  string(SHA256 ${run} "${output}")
endforeach()
if(NOT first STREQUAL second)
  message(FATAL_ERROR "two runs of seed ${SEED} differ: compare their output (sim --seed ${SEED} --count 1 -v)")
endif()
