# Before the files are packed: the times of the commit and plain permissions, whatever the umask was.
set(root "${CPACK_TEMPORARY_INSTALL_DIRECTORY}")
execute_process(COMMAND chmod -R u=rwX,go=rX "${root}" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND find "${root}" -exec touch -h -d "@$ENV{SOURCE_DATE_EPOCH}" {} +
  COMMAND_ERROR_IS_FATAL ANY)
