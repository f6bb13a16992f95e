#pragma once
#include "cub/emulated_sort.h"
