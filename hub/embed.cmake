# Makes C arrays of files, at build time: cmake -D MODE=lua|web -D FILES=list -D INTO=folder -P embed.cmake
#   lua   NAME.lua        ->  const char lua_NAME[], ends with 0     in lua_scripts.c, lua_scripts.h
#   web   files in FROM   ->  const struct web_asset web_assets[]    in web_assets.c, web_assets.h
# The list comes from the caller, so that a file that goes away changes the command and so the result.

function(embed_bytes file suffix out)
  file(READ "${file}" hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "${suffix}" bytes "${hex}")
  # Lines of 16 bytes keep the file readable for a debugger and for diff.
  string(REPEAT "[^,]+," 16 line)
  string(REGEX REPLACE "(${line})" "\\1\n    " bytes "${bytes}")
  set(${out} "${bytes}" PARENT_SCOPE)
endfunction()

function(embed_lua)
  set(declarations "")
  set(definitions "")
  foreach(script IN LISTS FILES)
    get_filename_component(name "${script}" NAME_WE)
    string(MAKE_C_IDENTIFIER "lua_${name}" name)
    embed_bytes("${script}" "'\\\\x\\1'," bytes)
    string(APPEND declarations "extern const char ${name}[];\n")
    string(APPEND definitions "\nconst char ${name}[] = {\n    ${bytes}'\\0'};\n")
  endforeach()
  file(WRITE "${INTO}/lua_scripts.h" "/* Made from hub/bus/lua by hub/embed.cmake. */\n"
    "#ifndef LUA_SCRIPTS_H\n#define LUA_SCRIPTS_H\n\n${declarations}\n#endif\n")
  file(WRITE "${INTO}/lua_scripts.c" "#include \"lua_scripts.h\"\n${definitions}")
endfunction()

function(mime_of file out)
  get_filename_component(extension "${file}" LAST_EXT)
  set(mime "application/octet-stream")
  foreach(pair .html=text/html .css=text/css .js=text/javascript .mjs=text/javascript
      .json=application/json .svg=image/svg+xml .png=image/png .ico=image/x-icon .txt=text/plain
      .md=text/markdown .ts=text/plain .woff2=font/woff2)
    string(REPLACE "=" ";" pair "${pair}")
    list(GET pair 0 known)
    if(extension STREQUAL known)
      list(GET pair 1 mime)
      if(mime MATCHES "^text/")
        string(APPEND mime "; charset=utf-8")
      endif()
    endif()
  endforeach()
  set(${out} "${mime}" PARENT_SCOPE)
endfunction()

function(embed_web)
  set(arrays "")
  set(rows "")
  set(index 0)
  foreach(source IN LISTS FILES)
    file(RELATIVE_PATH file "${FROM}" "${source}")
    mime_of("${file}" mime)
    file(SIZE "${source}" size)
    embed_bytes("${source}" "0x\\1," bytes)
    string(APPEND arrays "\nstatic const unsigned char asset_${index}[] = {\n    ${bytes}0x00};\n")
    string(APPEND rows "    {\"/${file}\", \"${mime}\", asset_${index}, ${size}},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  file(WRITE "${INTO}/web_assets.h" "/* Made from hub/web by hub/embed.cmake. */\n"
    "#ifndef WEB_ASSETS_H\n#define WEB_ASSETS_H\n\n#include <stddef.h>\n\n"
    "/* One file of the console: path begins with '/', data has len bytes and a 0 behind them. */\n"
    "struct web_asset {\n    const char *path;\n    const char *mime;\n"
    "    const unsigned char *data;\n    size_t len;\n};\n\n"
    "/* The table ends with a row whose path is NULL. */\n"
    "extern const struct web_asset web_assets[];\nextern const size_t web_assets_count;\n\n#endif\n")
  file(WRITE "${INTO}/web_assets.c" "#include \"web_assets.h\"\n${arrays}\n"
    "const struct web_asset web_assets[] = {\n${rows}    {NULL, NULL, NULL, 0},\n};\n"
    "const size_t web_assets_count = ${index};\n")
endfunction()

file(MAKE_DIRECTORY "${INTO}")
if(MODE STREQUAL "lua")
  embed_lua()
else()
  embed_web()
endif()
