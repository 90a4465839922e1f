#!/bin/sh
# Prints how many edges of each file of the engine the inputs in folders come by, and the lines of those they do not.
#   ./fuzz/uncovered.sh FOLDER ...
set -eu
