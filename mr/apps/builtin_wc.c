/* builtin_wc.c - wc.c under the name by which the program itself knows it. */
#define mr_application mr__app_wc
#include "mr/apps/wc.c"
