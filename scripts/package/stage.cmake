# Lays out all of the package but the programs, below $ENV{DESTDIR}. The caller sets SOURCE (the tree), VINHUB (a vinhub that
# runs here), VERSION, MAINTAINER and EPOCH (the commit's time).
set(from "${SOURCE}/scripts/package")
set(root "$ENV{DESTDIR}")
set(share "${root}/usr/share")

function(print_into file option)
  execute_process(COMMAND "${VINHUB}" ${option} OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  file(WRITE "${file}" "${text}")
endfunction()

# Without a name and a time in it: the same bytes each time.
function(compress file)
  execute_process(COMMAND gzip -9nf "${file}" COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# --- configuration, unit file, user
print_into("${root}/etc/vinhub/vinhub.yaml" --print-config-file)
file(READ "${SOURCE}/docker/vinhub.service" unit)
string(REPLACE "/usr/local/bin/" "/usr/bin/" unit "${unit}")
string(REPLACE "file:/usr/share/doc/vinhub/README.md" "man:vinhub(8)" unit "${unit}")
string(REPLACE "DynamicUser=yes" "User=vinhub\nGroup=vinhub" unit "${unit}")
string(REGEX REPLACE "#   install -m 644[^\n]*\n" "" unit "${unit}")
file(WRITE "${root}/usr/lib/systemd/system/vinhub.service" "${unit}")
file(COPY_FILE "${from}/sysusers.conf" "${root}/vinhub.conf")
file(MAKE_DIRECTORY "${root}/usr/lib/sysusers.d")
file(RENAME "${root}/vinhub.conf" "${root}/usr/lib/sysusers.d/vinhub.conf")

# --- manual pages
execute_process(COMMAND "${VINHUB}ctl" --help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "\n\n  nodes .*\n\n    " COMMANDS "${help}")
string(STRIP "${COMMANDS}" COMMANDS)
if(COMMANDS STREQUAL "")
  message(FATAL_ERROR "vinhubctl --help lists no commands")
endif()
string(REPLACE "-" "\\-" COMMANDS "${COMMANDS}")
string(PREPEND COMMANDS ".nf\n")
string(APPEND COMMANDS "\n.fi")
string(REPLACE "\n  " "\n" COMMANDS "${COMMANDS}")
foreach(page vinhub.8 vinhubctl.1)
  string(REGEX REPLACE ".*\\." "" section "${page}")
  configure_file("${from}/${page}" "${share}/man/man${section}/${page}" @ONLY)
  compress("${share}/man/man${section}/${page}")
endforeach()
print_into("${share}/man/man5/vinhub.yaml.5" --print-config-manual)
compress("${share}/man/man5/vinhub.yaml.5")

# --- completion
foreach(program vinhub vinhubctl)
  configure_file("${SOURCE}/scripts/${program}.bash"
    "${share}/bash-completion/completions/${program}" COPYONLY)
endforeach()

# --- documents
set(doc "${share}/doc/vinhub")
file(READ "${SOURCE}/LICENSE" license)
string(REGEX REPLACE "^[^\n]*\n\n[^\n]*\n\n" "" license "${license}") # its title and the line of the holders
string(REGEX REPLACE "\n\n" "\n.\n" license "${license}")
string(REGEX REPLACE "\n(.)" "\n \\1" license "\n${license}")
file(READ "${from}/copyright" copyright)
file(WRITE "${doc}/copyright" "${copyright}${license}")
# with the folders of the tree, so that links between them lead somewhere
file(GLOB documents RELATIVE "${SOURCE}" "${SOURCE}/hub/docs/*.md" "${SOURCE}/hub/docs/zh-CN/*.md")
foreach(document README.md SECURITY.md docker/README.md ${documents})
  configure_file("${SOURCE}/${document}" "${doc}/${document}" COPYONLY)
  compress("${doc}/${document}")
endforeach()
configure_file("${SOURCE}/CHANGELOG.md" "${doc}/NEWS.md" COPYONLY)
compress("${doc}/NEWS.md")
execute_process(COMMAND date -u -R -d "@${EPOCH}" OUTPUT_VARIABLE date
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(WRITE "${doc}/changelog" "vinhub (${VERSION}) unstable; urgency=medium

  * Release ${VERSION}. What changed for operators and front-ends, and what an
    upgrade needs, is in NEWS.md.

 -- ${MAINTAINER}  ${date}
")
compress("${doc}/changelog")
