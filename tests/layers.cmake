# Which layer may include what. The include trees of the build keep layers apart, but not system
# headers (/usr/include): this compares the #include lines with one table.
# Prints TAP: cmake -D ROOT=checkout -P layers.cmake

# folder | layers it may include from | libraries it may include, as prefixes of the header's name
set(table
  "common|common|jansson openssl/ yaml zlib utarray utlist"
  "hub/loop|common loop|ares event2/ libwebsockets openssl/ utlist"
  "hub/bus|common loop bus|utlist"
  "hub/core|common bus core|utlist"
  "hub/front|common loop core front|jansson openssl/ utlist zlib"
  "hub/upstream|common loop core upstream|openssl/ utlist"
  "hub/admin|common loop bus core admin|event2/ jansson utlist"
  "hub/app|common loop bus core front upstream admin app|jansson openssl/ utlist"
  "hub/ctl|common loop bus ctl|event2/ hiredis/ jansson openssl/ utlist"
)
# The codecs, common/envelope* and common/v1_msgpack*: msgpack is hidden behind their interfaces.
set(codecs_may "msgpack")
# uthash is included by common/hash.h alone, which gives it a hash of its own.
# Of the bus only what has redis in its name knows Redis, and hangs hiredis's sockets on the loop's base.
set(redis_may "event2/;hiredis/;openssl/")

set(layers "admin|app|bus|common|core|ctl|front|loop|upstream")
set(libraries "ares|event2/|event\\.h|hiredis|jansson|libwebsockets|msgpack|openssl/|utarray|uthash|utlist|yaml|zlib")

function(check file allowed out)
  get_filename_component(name "${file}" NAME)
  if(name MATCHES "^(envelope|v1_msgpack)")
    list(APPEND allowed ${codecs_may})
  endif()
  if(name STREQUAL "hash.h")
    list(APPEND allowed "uthash")
  endif()
  if(name MATCHES "redis" AND file MATCHES "/hub/bus/")
    list(APPEND allowed ${redis_may})
  endif()
  file(STRINGS "${file}" lines REGEX "^[ \t]*#[ \t]*include")
  set(wrong "")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "[<\"]([^>\"]+)[>\"]")
      continue()
    endif()
    set(header "${CMAKE_MATCH_1}")
    if(NOT header MATCHES "^(${layers})/" AND NOT header MATCHES "^(${libraries})")
      continue()
    endif()
    set(fine FALSE)
    foreach(prefix IN LISTS allowed)
      string(FIND "${header}" "${prefix}" at)
      if(at EQUAL 0)
        set(fine TRUE)
      endif()
    endforeach()
    if(NOT fine)
      list(APPEND wrong "${file} includes ${header}")
    endif()
  endforeach()
  set(${out} "${wrong}" PARENT_SCOPE)
endfunction()

set(failures 0)
foreach(row IN LISTS table)
  string(REPLACE "|" ";" row "${row}")
  list(GET row 0 folder)
  list(GET row 1 own)
  list(GET row 2 third)
  string(REPLACE " " ";" own "${own}")
  string(REPLACE " " ";" third "${third}")
  list(TRANSFORM own APPEND "/")
  file(GLOB_RECURSE files "${ROOT}/${folder}/*.[ch]")
  set(all_wrong "")
  foreach(file IN LISTS files)
    check("${file}" "${own};${third}" wrong)
    list(APPEND all_wrong ${wrong})
  endforeach()
  list(LENGTH files count)
  if(all_wrong)
    list(JOIN all_wrong "\n# " text)
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo "not ok - ${folder} keeps to its layer\n# ${text}")
    math(EXPR failures "${failures} + 1")
  elseif(count GREATER 0)
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo "ok - ${folder} keeps to its layer (${count} files)")
  endif()
endforeach()
if(failures)
  message(FATAL_ERROR "${failures} folders include what they may not")
endif()
