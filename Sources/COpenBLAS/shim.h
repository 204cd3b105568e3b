#pragma once
// The part of OpenBLAS that the engine uses. `cblas.h` is the one that OpenBLAS installs.
#include <cblas.h>
