"""The commands, one module each: they parse the command line, call the library and print."""
