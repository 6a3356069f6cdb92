# After it is packed: dpkg-deb packs it again. CPack writes the umask of its caller into the archive's headers.
foreach(package IN LISTS CPACK_PACKAGE_FILES)
  set(content "${package}.content")
  file(REMOVE_RECURSE "${content}")
  execute_process(COMMAND dpkg-deb -R "${package}" "${content}" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND chmod 755 "${content}" "${content}/DEBIAN" COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND dpkg-deb --root-owner-group -Zxz -b "${content}" "${package}"
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  file(REMOVE_RECURSE "${content}")
endforeach()
