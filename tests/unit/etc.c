/* SPDX-License-Identifier: MIT */
#include "vmm/run/etc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/firmware.h"
#include "tests/unit/tree.h"
#include "tests/unit/unit.h"
#include "vmm/core/base.h"

static char tree[64], resolver[96];
static struct etc etc;

static void set_up(void)
{
    tree_make(tree);
    snprintf(resolver, sizeof(resolver), "%s/host-resolver", tree);
    log_capture();
}

static void tear_down(void)
{
    etc_finish(&etc);
    tree_remove(tree);
}

static void make(enum etc_network network)
{
    ck_assert_int_eq(etc_make(&etc, tree, "box", resolver, network), 0);
}

#define OWN "127.0.1.1 box\n::ffff:127.0.1.1 box\n"

START_TEST(own_name_has_addresses)
{
    tree_put_text(tree, "etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6\n192.0.2.1 box srv");
    make(ETC_NO_NETWORK);
    ck_assert_str_eq(etc.hosts, OWN "127.0.0.1 localhost\n::1 localhost ip6\n192.0.2.1 box srv\n");
    ck_assert_str_eq(etc.hostname, "box\n");
    ck_assert_ptr_null(etc.resolver);
}
END_TEST

START_TEST(root_without_etc)
{
    make(ETC_OTHER_NETWORK);
    ck_assert_str_eq(etc.hosts, OWN "127.0.0.1 localhost\n::1 localhost\n");
    ck_assert_ptr_null(etc.resolver);
}
END_TEST

/* NixOS: /etc/hosts is a link into the store. */
START_TEST(links_lead_into_the_root)
{
    char link[96];

    tree_put_text(tree, "store/hosts", "192.0.2.2 store\n");
    tree_put_text(tree, "etc/x", "");
    snprintf(link, sizeof(link), "%s/etc/hosts", tree);
    ck_assert_int_eq(symlink("/store/hosts", link), 0);
    make(ETC_NO_NETWORK);
    ck_assert_str_eq(etc.hosts, OWN "192.0.2.2 store\n");
}
END_TEST

START_TEST(hosts_that_cannot_be_copied)
{
    const size_t sizes[] = { 3, 9 * MIB, 17 * MIB }, size = sizes[_i];
    char *bytes = malloc(size);

    memset(bytes, _i ? '\n' : '\0', size);
    tree_put(tree, "etc/hosts", bytes, size);
    free(bytes);
    make(ETC_USER_NETWORK);
    ck_assert_ptr_null(etc.hosts);
    ck_assert_ptr_nonnull(etc.resolver);
    ck_assert(logged("/etc/hosts"));
}
END_TEST

/* The host's file, what the guest gets in the user-mode network, and whether it needs IPv6. */
static const struct {
    const char *host, *guest;
    bool ipv6;
} resolvers[] = {
    { "nameserver 192.0.2.1\n", "nameserver 10.0.2.3\n", false },
    { "# x\nsearch a.example b.example\nnameserver 127.0.0.53\n\noptions edns0 ndots:2\n;y",
      "search a.example b.example\noptions edns0 ndots:2\nnameserver 10.0.2.3\n", false },
    { "domain a.example", "domain a.example\nnameserver 10.0.2.3\n", false },
    { "nameserver\t2001:db8::1\nnameserver fe80::1%eth0\nsearch x\n",
      "search x\nnameserver fec0::3\n", true },
    { "nameserver 2001:db8::1\nnameserver 192.0.2.1\n", "nameserver 10.0.2.3\n", false },
    { "nameservers x\n#nameserver 2001:db8::1\n", "nameservers x\nnameserver 10.0.2.3\n", false },
    { "", "nameserver 10.0.2.3\n", false },
    { NULL, "nameserver 10.0.2.3\n", false },
};

START_TEST(resolver_of_the_user_network)
{
    if (resolvers[_i].host)
        tree_put_text(tree, "host-resolver", resolvers[_i].host);
    tree_put_text(tree, "etc/resolv.conf", "nameserver 192.0.2.99\n");
    make(ETC_USER_NETWORK);
    ck_assert_str_eq(etc.resolver, resolvers[_i].guest);
    ck_assert_int_eq(etc.ipv6, resolvers[_i].ipv6);
}
END_TEST

/* It is a link into /run, which the guest's own /run hides. */
START_TEST(resolver_of_another_network)
{
    char link[96];

    tree_put_text(tree, "run/r/resolv.conf", "# kept\nnameserver 192.0.2.3\n");
    tree_put_text(tree, "etc/x", "");
    snprintf(link, sizeof(link), "%s/etc/resolv.conf", tree);
    ck_assert_int_eq(symlink("../run/r/resolv.conf", link), 0);
    make(ETC_OTHER_NETWORK);
    ck_assert_str_eq(etc.resolver, "# kept\nnameserver 192.0.2.3\n");
    ck_assert(!etc.ipv6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("etc");
    TCase *tests = tcase_create("etc");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, own_name_has_addresses);
    tcase_add_test(tests, root_without_etc);
    tcase_add_test(tests, links_lead_into_the_root);
    tcase_add_loop_test(tests, hosts_that_cannot_be_copied, 0, 3);
    tcase_add_loop_test(tests, resolver_of_the_user_network, 0, ARRAY_SIZE(resolvers));
    tcase_add_test(tests, resolver_of_another_network);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
