/* The template for float and for double, at the level that the including file has set. */
#define REAL float
#define BITS int /* an integer of as many bytes */
#include "template.h"
#undef REAL
#undef BITS

#define REAL double
#define BITS long long
#define FACTORS
#include "template.h"
