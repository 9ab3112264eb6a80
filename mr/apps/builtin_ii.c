/* builtin_ii.c - ii.c under the name by which the program itself knows it. */
#define mr_application mr__app_ii
#include "mr/apps/ii.c"
