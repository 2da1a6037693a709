/* The lowest level: what every x86-64 has, and every other CPU. */
#include "compiler.h"

#define LEVEL baseline
#define FOR_LEVEL
#define VECTOR_BYTES 16
#define REGISTER_GROUPS 0 /* groups of a gradient that stays in registers beside the sums of four rows; 0 for never */
#define PANEL 4           /* lines that share a pass over coefficients or gradient: registers hold sums for so many */
#define TARGETS 1         /* that share a pass over a panel */
#include "both_types.h"
