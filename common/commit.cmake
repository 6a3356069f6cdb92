# The commit that is built, and its time, at build time: cmake -D SOURCE=folder -D GIVEN=commit -D INTO=folder -P commit.cmake
#   commit.h    #define VINHUB_COMMIT "0123456789ab"; "-modified" behind it where files differ from that commit, "" where it is not known
#   epoch.txt   the commit's time in seconds since 1970, 0 where it is not known; SOURCE_DATE_EPOCH goes before it
# In this order: GIVEN, git, commit.txt of a tarball that git archive made. The files are written only when they change, so a
# commit compiles one file again and links.

function(run_git out)
  execute_process(COMMAND git -C "${SOURCE}" ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE said
    ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    set(said "")
  endif()
  set(${out} "${said}" PARENT_SCOPE)
endfunction()

function(write_changed file content)
  set(old "")
  if(EXISTS "${file}")
    file(READ "${file}" old)
  endif()
  if(NOT old STREQUAL content)
    file(WRITE "${file}" "${content}")
  endif()
endfunction()

set(commit "")
set(epoch 0)
# A tarball unpacked inside another repository is no part of that one.
run_git(top rev-parse --show-toplevel)
file(REAL_PATH "${SOURCE}" source)
if(top STREQUAL source)
  run_git(commit rev-parse --short=12 HEAD)
  run_git(epoch log -1 --format=%ct HEAD)
  run_git(modified status --porcelain --untracked-files=no)
  if(modified)
    string(APPEND commit "-modified")
  endif()
else()
  file(READ "${SOURCE}/common/commit.txt" archived)
  if(archived MATCHES "^([0-9a-f]+) ([0-9]+)")
    set(epoch "${CMAKE_MATCH_2}")
    string(SUBSTRING "${CMAKE_MATCH_1}" 0 12 commit)
  endif()
endif()
if(DEFINED ENV{SOURCE_DATE_EPOCH})
  set(epoch "$ENV{SOURCE_DATE_EPOCH}")
endif()
if(GIVEN)
  set(commit "${GIVEN}")
endif()
write_changed("${INTO}/commit.h" "#define VINHUB_COMMIT \"${commit}\"\n")
write_changed("${INTO}/epoch.txt" "${epoch}\n")
