# Unique names and one dialect of C in all sources, which clang-tidy has no checks for.
#   - A struct, enum or union of one name is defined in one file only.
#   - A .c or .h file has a name that no other has (but main.c).
#   - struct session has at most as many fields as below: what belongs to a part stands there.
#   - Pointers are tested as in `if (!p)`, sizeof has parentheses, a single constant is a #define.
# Prints TAP: cmake -D ROOT=checkout -P dialect.cmake

cmake_minimum_required(VERSION 3.22)
# The fakes of tests: each stands in for an opaque struct that is not linked in there.
set(fakes upstream loop_timer redis_link)

# Pairs: an expression that must not occur, and what to write instead.
set(forms
  "[^A-Za-z0-9_]sizeof [^(]" "sizeof(x), with parentheses"
  "== NULL" "!p"
  "NULL [!=]= " "!p, or p"
  "(if|while|assert) \\([A-Za-z0-9_.>-]+ != NULL\\)" "if (p)"
  "(&&|\\|\\|) [A-Za-z0-9_.>-]+ != NULL" "p"
  " != NULL (&&|\\|\\||\\?)" "p"
  "\n *enum { [A-Z0-9_]+ = [^,}]+ }[;]" "a #define: enum is for constants that belong together")

# What holds the core together is the first to grow: a field more, and who changes one must know all.
set(session_fields 20)

set(failures 0)
macro(say ok name text)
  if(${ok})
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo "ok - ${name}")
  else()
    execute_process(COMMAND ${CMAKE_COMMAND} -E echo "not ok - ${name}\n# ${text}")
    math(EXPR failures "${failures} + 1")
  endif()
endmacro()

# The first forbidden form in the text, and what to write instead; empty: there is none.
function(find_form text out)
  set(rest "${forms}")
  set(found "")
  while(rest AND NOT found)
    list(POP_FRONT rest pattern advice)
    string(REGEX MATCH "${pattern}" found "${text}")
    string(STRIP "${found}" found)
  endwhile()
  if(found)
    set(found "found \"${found}\", expected ${advice}")
  endif()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# The names of the types that the text defines.
function(find_tags text out)
  string(REGEX MATCHALL "\n[ \t]*(struct|enum|union) [a-z0-9_]+ {" lines "\n${text}")
  set(tags "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE ".* ([a-z0-9_]+) {" "\\1" tag "${line}")
    list(APPEND tags ${tag})
  endforeach()
  list(REMOVE_DUPLICATES tags)
  set(${out} "${tags}" PARENT_SCOPE)
endfunction()

# How many fields the struct of that name has, those of structs within it not counted; 0: it is not in
# the text.
function(count_fields text name out)
  set(${out} 0 PARENT_SCOPE)
  if(NOT "\n${text}" MATCHES "\nstruct ${name} {\n(.*)")
    return()
  endif()
  string(REGEX REPLACE "/\\*([^*]|\\*[^/])*\\*/" "" body "${CMAKE_MATCH_1}")
  string(REGEX REPLACE "\n};.*" "" body "\n${body}")
  string(REGEX REPLACE "\\([^()]*\\)" "" body "${body}")
  string(REPLACE ";" "|" body "${body}")
  string(REGEX MATCHALL "\n    [^ \n][^\n]*[|]" lines "${body}")
  string(REGEX MATCHALL "[|,]" fields "${lines}")
  list(LENGTH fields count)
  set(${out} ${count} PARENT_SCOPE)
endfunction()

# The check is tried on known faults first: if it found nothing, every tree would pass.
set(missed "")
foreach(bad " x = sizeof *p;" "if (p == NULL)" "if (NULL != p)" "while (a->b != NULL)" "if (a && b.c != NULL)"
    "return a != NULL || b;" "\nenum { MANY = 3 };")
  find_form("${bad}" found)
  if(NOT found)
    list(APPEND missed "${bad}")
  endif()
endforeach()
foreach(good "sizeof(*p)" "while ((a = b()) != NULL)" "bool b = a != NULL;" "\nenum { ONE = 1, TWO };" "#define MANY 3")
  find_form("${good}" found)
  if(found)
    list(APPEND missed "${good} is right: ${found}")
  endif()
endforeach()
find_tags("struct one {\n    enum two { A };\n    struct three three;\n};\nunion four {" tags)
if(NOT "${tags}" STREQUAL "one;two;four")
  list(APPEND missed "definitions: ${tags}")
endif()
count_fields("struct other {\n    int no;\n};\nstruct s {\n    int a; /* one; not two */\n    void (*f)(int x, int y);\n    struct {
        int in, out;\n    } b;\n    int c, d;\n};\nstruct t {\n    int e;\n};" s fields)
if(NOT fields EQUAL 5)
  list(APPEND missed "struct s has 5 fields, counted ${fields}")
endif()
string(COMPARE EQUAL "${missed}" "" fine)
list(JOIN missed "\n# " text)
say(${fine} "the check finds what it looks for" "${text}")

file(GLOB_RECURSE files "${ROOT}/common/*.[ch]" "${ROOT}/hub/*.[ch]" "${ROOT}/tests/*.[ch]")
list(FILTER files EXCLUDE REGEX "/node_modules/")
set(forms_found "")
set(tags_found "")
set(names_found "")
foreach(file IN LISTS files)
  file(RELATIVE_PATH shown "${ROOT}" "${file}")
  file(READ "${file}" text)
  find_form("${text}" found)
  if(found)
    list(APPEND forms_found "${shown}: ${found}")
  endif()
  find_tags("${text}" tags)
  foreach(tag IN LISTS tags)
    if(tag IN_LIST fakes AND shown MATCHES "^tests/")
      continue()
    endif()
    if(DEFINED "tag_${tag}")
      list(APPEND tags_found "${tag} is defined in ${tag_${tag}} and in ${shown}: give one of them another name")
    endif()
    set("tag_${tag}" "${shown}")
  endforeach()
  get_filename_component(name "${file}" NAME)
  if(DEFINED "name_${name}" AND NOT name STREQUAL "main.c")
    list(APPEND names_found "${name_${name}} and ${shown}: rename one of them")
  endif()
  set("name_${name}" "${shown}")
endforeach()
file(READ "${ROOT}/hub/core/session/state.h" text)
count_fields("${text}" session fields)
set(fields_fine FALSE)
if(fields GREATER 0 AND fields LESS_EQUAL session_fields)
  set(fields_fine TRUE)
endif()
list(LENGTH files count)
foreach(list_name forms_found tags_found names_found)
  list(JOIN ${list_name} "\n# " ${list_name}_text)
  string(COMPARE EQUAL "${${list_name}}" "" ${list_name}_none)
endforeach()
say(${forms_found_none} "one dialect of C in ${count} files" "${forms_found_text}")
say(${tags_found_none} "a struct, enum or union of one name is defined in one file" "${tags_found_text}")
say(${names_found_none} "a file has a name of its own" "${names_found_text}")
say(${fields_fine} "struct session has at most ${session_fields} fields" "found ${fields}: move what belongs to a part to its file")
if(count LESS 100)
  message(FATAL_ERROR "expected hundreds of sources under ${ROOT}, got ${count}: is ROOT the checkout?")
endif()
if(failures)
  message(FATAL_ERROR "${failures} checks failed")
endif()
