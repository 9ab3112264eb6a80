/* Every code of the table has its own name and text; unknown codes have a placeholder, none is NULL. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

static const struct {
    int code;
    const char *name;
} own[] = {
#define X(name, num, text) {name, #name},
    QE_MAP(X)
#undef X
};

static void test_own_codes(void **state)
{
    size_t n = sizeof(own) / sizeof(own[0]);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(err_name(own[i].code), own[i].name);
        assert_true(strlen(err_text(own[i].code)) > 5);
        assert_true(own[i].code < -2000);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(own[i].code, own[j].code);
            assert_string_not_equal(err_text(own[i].code), err_text(own[j].code));
        }
    }
}

static void test_errno(void **state)
{
    assert_string_equal(err_name(-ENOENT), "ENOENT");
    assert_string_equal(err_text(-ENOENT), "No such file or directory");
    assert_string_equal(err_name(-ENOSPC), "ENOSPC");
    assert_string_equal(err_name(0), "OK");
    assert_string_equal(err_text(0), "no error");
}

static void test_unknown(void **state)
{
    const int codes[] = {1, ENOENT, -1999, -99999, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_string_equal(err_name(codes[i]), "UNKNOWN");
        assert_string_equal(err_text(codes[i]), "unknown error");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_codes),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
