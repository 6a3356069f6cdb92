# The Debian package: cmake --build build --target package makes build/vinhub_VERSION_ARCH.deb.
# Programs, unit file, /etc/vinhub/vinhub.yaml, manual pages, completion. stage.cmake lays all but the programs out.
# The same commit gives the same bytes: times come from the commit, nothing names the folder it was built in.

# The manual page and the file of all settings are printed by the program itself.
set(VINHUB_MAINTAINER "vinhub authors <vinhub@users.noreply.github.com>" CACHE STRING "Who answers for the package")
set(VINHUB_NATIVE "" CACHE FILEPATH "A vinhub of this version that runs here, for packages of another architecture")
if(VINHUB_NATIVE)
  set(vinhub_that_runs "${VINHUB_NATIVE}")
else()
  set(vinhub_that_runs "${CMAKE_BINARY_DIR}/vinhub")
endif()

install(CODE "
  set(SOURCE \"${CMAKE_SOURCE_DIR}\")
  set(VINHUB \"${vinhub_that_runs}\")
  set(VERSION \"${PROJECT_VERSION}\")
  set(MAINTAINER \"${VINHUB_MAINTAINER}\")
  file(STRINGS \"${CMAKE_BINARY_DIR}/commit/epoch.txt\" EPOCH)
  include(\"${CMAKE_CURRENT_LIST_DIR}/stage.cmake\")" COMPONENT system EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME vinhub)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_CONTACT "${VINHUB_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "clustered WebSocket push hub for vehicle data")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "Browsers connect to any of several equal nodes. For each vehicle and service
the cluster keeps one upstream WebSocket to a backend, and every push of the
backend reaches every browser that watches the vehicle, on whichever node it
sits. Nodes share a Redis and nothing else; a single node needs none.")
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_CMAKE_PROJECTS
  "${CMAKE_BINARY_DIR};vinhub;programs;/" "${CMAKE_BINARY_DIR};vinhub;system;/")
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 1) # xz with several cuts the data by their number
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON) # what the programs load, by the system they are built on
set(CPACK_DEBIAN_PACKAGE_DEPENDS
  "init-system-helpers (>= 1.54), systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "ca-certificates")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server | valkey-server, bash-completion")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${CMAKE_CURRENT_LIST_DIR}/conffiles"
  "${CMAKE_CURRENT_LIST_DIR}/postinst" "${CMAKE_CURRENT_LIST_DIR}/prerm"
  "${CMAKE_CURRENT_LIST_DIR}/postrm")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_PRE_BUILD_SCRIPTS "${CMAKE_CURRENT_LIST_DIR}/settle.cmake")
set(CPACK_POST_BUILD_SCRIPTS "${CMAKE_CURRENT_LIST_DIR}/repack.cmake")
if(CMAKE_CROSSCOMPILING)
  string(REGEX REPLACE "^aarch64$" "arm64" CPACK_DEBIAN_PACKAGE_ARCHITECTURE "${CMAKE_SYSTEM_PROCESSOR}")
endif()
# CPack reads this file when it packs: the commit may be another than when the build was configured.
set(CPACK_PROJECT_CONFIG_FILE "${CMAKE_BINARY_DIR}/package-times.cmake")
file(WRITE "${CPACK_PROJECT_CONFIG_FILE}" "file(STRINGS \"${CMAKE_BINARY_DIR}/commit/epoch.txt\" epoch)
set(ENV{SOURCE_DATE_EPOCH} \"\${epoch}\")
")
include(CPack)
