"""One module per stage: parse the command line, call the library, print."""
