/* SPDX-License-Identifier: MIT */
#include "vmm/run/etc.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "firmware/init/user_network.h"
#include "vmm/core/base.h"
#include "vmm/core/log.h"
#include "vmm/run/guest_file.h"

#define ETC_MAX (8 * MIB) /* bytes of a file; lists of blocked hosts have a few MiB */

/* Closes a stream of open_memstream(); frees its text, too, if it does not `fit`. */
static int etc_end(FILE *text, char **bytes, bool fits)
{
    bool failed = ferror(text);

    if (fclose(text) != 0 || failed || !fits) {
        free(*bytes);
        *bytes = NULL;
    }
    return fits && !*bytes ? log_error(ENOMEM, "files of the guest's /etc") : 0;
}

/* Copies at most ETC_MAX bytes, and ends the last line. False: there are more, or it is no text. */
static bool etc_copy(FILE *to, FILE *from)
{
    char bytes[4096];
    size_t got, total = 0;
    char last = '\n';

    while ((got = fread(bytes, 1, sizeof(bytes), from)) > 0) {
        total += got;
        if (total > ETC_MAX || memchr(bytes, '\0', got))
            return false;
        last = bytes[got - 1];
        fwrite(bytes, 1, got, to);
    }
    if (last != '\n')
        fputc('\n', to);
    return true;
}

/*
 * Without an IPv6 address, programs that look for one would ask a name server. It is the IPv4 one
 * in IPv6 notation, because ::1 is localhost: that would become the name of the guest.
 */
static int etc_make_hosts(struct etc *etc, const char *root, const char *hostname)
{
    FILE *old = guest_file_read(root, "/etc/hosts");
    bool fits = old || errno != EFBIG;
    size_t size;
    FILE *text = open_memstream(&etc->hosts, &size);

    if (text) {
        fprintf(text, "127.0.1.1 %s\n::ffff:127.0.1.1 %s\n", hostname, hostname);
        if (old)
            fits = etc_copy(text, old);
        else
            fputs("127.0.0.1 localhost\n::1 localhost\n", text);
    }
    if (old)
        fclose(old);
    if (!fits)
        log_warn("/etc/hosts is too large, or no text: the guest's own name is not in it");
    return text ? etc_end(text, &etc->hosts, fits) : log_error(ENOMEM, "files of the guest's /etc");
}

/*
 * The network's own name server asks the host's. libslirp has one with an IPv4 address for the
 * host's IPv4 servers, and one with an IPv6 address for the others.
 */
static void etc_put_name_server(FILE *to, bool ipv6)
{
    const struct in_addr server = { htonl(USER_NETWORK_NAMESERVER) };
    const struct in6_addr server6 = { .s6_addr = { USER_NETWORK6_NAMESERVER } };
    char text[INET6_ADDRSTRLEN];

    fprintf(to, "nameserver %s\n",
            ipv6 ? inet_ntop(AF_INET6, &server6, text, sizeof(text))
                 : inet_ntop(AF_INET, &server, text, sizeof(text)));
}

/* Copies what is not about servers, such as "search". True: all servers have IPv6 addresses. */
static bool etc_copy_settings(FILE *to, FILE *from)
{
    const size_t length = strlen("nameserver");
    bool ipv4 = false, ipv6 = false;
    char *line = NULL;
    size_t size;

    while (getline(&line, &size, from) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "nameserver", length) && isblank((unsigned char)line[length]))
            *(strchr(line, ':') ? &ipv6 : &ipv4) = true;
        else if (isalpha((unsigned char)*line))
            fprintf(to, "%s\n", line);
    }
    free(line);
    return ipv6 && !ipv4;
}

static int etc_make_resolver(struct etc *etc, FILE *old, enum etc_network network)
{
    size_t size;
    FILE *text = open_memstream(&etc->resolver, &size);
    bool fits = true;

    if (!text)
        return log_error(ENOMEM, "files of the guest's /etc");
    if (network == ETC_USER_NETWORK) {
        etc->ipv6 = old && etc_copy_settings(text, old);
        etc_put_name_server(text, etc->ipv6);
    } else {
        fits = etc_copy(text, old);
    }
    return etc_end(text, &etc->resolver, fits);
}

int etc_make(struct etc *ret, const char *root, const char *hostname, const char *host_resolver,
             enum etc_network network)
{
    FILE *old = NULL;
    int error;

    *ret = (struct etc){ .hosts = NULL };
    error = etc_make_hosts(ret, root, hostname);
    if (asprintf(&ret->hostname, "%s\n", hostname) < 0) {
        ret->hostname = NULL;
        return log_error(ENOMEM, "/etc/hostname");
    }
    if (network == ETC_USER_NETWORK)
        old = guest_file_read("/", host_resolver);
    else if (network == ETC_OTHER_NETWORK) /* often a link into /run */
        old = guest_file_read(root, "/etc/resolv.conf");
    if (!error && (old || network == ETC_USER_NETWORK))
        error = etc_make_resolver(ret, old, network);
    if (old)
        fclose(old);
    return error;
}

void etc_finish(struct etc *etc)
{
    free(etc->hosts);
    free(etc->hostname);
    free(etc->resolver);
    *etc = (struct etc){ .hosts = NULL };
}
