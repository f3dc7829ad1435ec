/* SPDX-License-Identifier: MIT */
#ifndef FIRMWARE_INIT_USER_NETWORK_H
#define FIRMWARE_INIT_USER_NETWORK_H

/*
 * IPv4 addresses of the user-mode network, the same as QEMU's. The init takes its address from here
 * instead of asking the DHCP server, which would offer the same.
 */
#define USER_NETWORK            0x0a000200 /* 10.0.2.0 */
#define USER_NETWORK_MASK       0xffffff00
#define USER_NETWORK_GATEWAY    0x0a000202 /* the host, as the guest sees it */
#define USER_NETWORK_NAMESERVER 0x0a000203
#define USER_NETWORK_GUEST      0x0a00020f /* 10.0.2.15 */

/* Its IPv6 addresses, in fec0::/64: initializers of the bytes of an address. */
#define USER_NETWORK6            0xfe, 0xc0
#define USER_NETWORK6_GATEWAY    0xfe, 0xc0, [15] = 0x02
#define USER_NETWORK6_NAMESERVER 0xfe, 0xc0, [15] = 0x03
#define USER_NETWORK6_GUEST      0xfe, 0xc0, [15] = 0x15

#endif
