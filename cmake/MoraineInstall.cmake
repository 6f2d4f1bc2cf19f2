# cmake --install build: the program, and what it prints of itself: man pages, and what shells complete by.
include(GNUInstallDirs)
# oneDNN of one's own (tools/fetch-onednn) goes with the program.
if(MORAINE_ONEDNN AND dnnl_DIR MATCHES "/\\.deps/onednn/")
  set_target_properties(moraine PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/moraine")
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/.deps/onednn/lib/ DESTINATION lib/moraine FILES_MATCHING PATTERN "libdnnl.so.*"
          PATTERN cmake EXCLUDE)
endif()
install(TARGETS moraine RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(CODE "
  set(program \"$<TARGET_FILE:moraine>\")
  set(share \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}\")
  file(MAKE_DIRECTORY \"\${share}/man/man1\" \"\${share}/bash-completion/completions\"
       \"\${share}/zsh/site-functions\" \"\${share}/fish/vendor_completions.d\")
  execute_process(COMMAND \${program} manual --into \"\${share}/man/man1\" COMMAND_ERROR_IS_FATAL ANY)
  foreach(shell_file bash:bash-completion/completions/moraine zsh:zsh/site-functions/_moraine fish:fish/vendor_completions.d/moraine.fish)
    string(REPLACE : \";\" pair \${shell_file})
    list(GET pair 0 shell)
    list(GET pair 1 file)
    execute_process(COMMAND \${program} completion \${shell} OUTPUT_FILE \"\${share}/\${file}\" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
")
