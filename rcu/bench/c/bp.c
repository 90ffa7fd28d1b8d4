#define _LGPL_SOURCE
#define URCU_INLINE_SMALL_FUNCTIONS
#define URCU_API_MAP
#include <urcu/urcu-bp.h>

#define FLAVOR bp
#include "flavor.h"
