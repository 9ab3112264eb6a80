/* apps.h - the applications that come with the program. */
#ifndef QFS_MR_APPS_H
#define QFS_MR_APPS_H

#include "mr/mr.h"

extern const struct mr_app mr__app_wc;             /* word count */
extern const struct mr_app mr__app_ii;             /* inverted index: word -> documents */
extern const struct mr_app mr__app_grep;           /* lines that match */
extern const struct mr_app mr__app_sort;           /* lines in order */
extern const struct mr_app mr__app_sum;            /* reduce only: the sum of the values */
extern const struct mr_app mr__app_identity;       /* every pair as it is */

#endif
