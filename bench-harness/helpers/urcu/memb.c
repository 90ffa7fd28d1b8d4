#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS
#define URCU_API_MAP
#include <urcu/urcu-memb.h>
#include <urcu/defer.h>

#include "flavor.h"
