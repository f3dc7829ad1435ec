# SPDX-License-Identifier: MIT
"""A large machine: Debian's generic kernel, 4 CPUs, 6 GiB, console on hvc0, two taps; ends by SIGTERM."""

import os
import signal
import subprocess
import unittest

from machine import FILES, MACHINE, NO_STRAY_INTERRUPTS, GuestTest, sha256, web_server

MIB = 1 << 20
GIB = 1 << 30
TAP = "minivmm-boot"
HOST, GUEST = "10.77.0.1", "10.77.0.2"
VHOST_TAP = "minivmm-vhost"  # served by vhost-net
VHOST_HOST, VHOST_GUEST = "10.78.0.1", "10.78.0.2"
DHCP_SERVER = f"""
interface {TAP}
start {GUEST}
end {GUEST}
opt subnet 255.255.255.0
lease_file /dev/null
pidfile /dev/null
"""
SIZES = [(40, 100), (50, 120)]
# 6 GiB: a PC has a hole from 3 to 4, an Arm board begins at 1.
RAM = {
    "x86_64": ("^00100000-bfffffff : System RAM", "^100000000-1bfffffff : System RAM"),
    # The last 64 KiB are the generation ID's.
    "aarch64": ("^40000000-1bffeffff : System RAM", "^1bfff0000-1bfffffff : reserved"),
}


class Generic(GuestTest):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK):
            raise unittest.SkipTest("a tap needs root and /dev/net/tun")
        super().setUpClass()
        cls.make_tap(TAP, HOST)
        cls.make_tap(VHOST_TAP, VHOST_HOST)
        cls.serve_dhcp()
        (cls.directory / "www").mkdir()
        cls.page = os.urandom(2 * MIB)
        (cls.directory / "www/page").write_bytes(cls.page)
        pages = [f"http://{host}:{cls.enterClassContext(web_server(cls.directory / 'www', host))}/page"
                 for host in (HOST, VHOST_HOST)]
        script = f'minivmm.test="sh /test/generic.sh {pages[0]} {pages[1]} {VHOST_GUEST}"'
        machine = cls.boot(
            "--kernel", FILES / "vmlinuz-generic", "--initrd", FILES / "initrd-generic.img",
            "--memory", "6G", "--cpus", 4, "--console", "stdio",
            "--disk", f"{cls.copy('root.img')},engine=thread",
            "--net", f"tap,name={TAP},mac=52:54:00:aa:bb:cc",
            "--net", f"tap,name={VHOST_TAP},vhost",
            "--cmdline", f"console=hvc0 quiet root=/dev/vda rw {script}",
            terminal=SIZES[0])
        cls.see_it_through(machine)

    @classmethod
    def make_tap(cls, name: str, address: str):
        def ip(*arguments: str):
            subprocess.run(["ip", *arguments], check=True)

        ip("tuntap", "add", name, "mode", "tap")
        cls.addClassCleanup(ip, "link", "delete", name)
        ip("address", "add", f"{address}/24", "dev", name)
        ip("link", "set", name, "up")

    @classmethod
    def serve_dhcp(cls):
        settings = cls.directory / "udhcpd.conf"
        settings.write_text(DHCP_SERVER)
        server = subprocess.Popen([FILES / "busybox", "udhcpd", "-f", settings],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(server.wait)
        cls.addClassCleanup(server.kill)

    @classmethod
    def see_it_through(cls, machine):
        machine.wait_for("^guest: serving$")
        cls.fetched = machine.fetch(f"http://{GUEST}/random")
        cls.fetched_by_vhost = machine.fetch(f"http://{VHOST_GUEST}/random")
        cls.threads = subprocess.check_output(["ps", "-eLo", "comm"], text=True).split()
        machine.wait_for("^guest: size ")
        machine.resize(*SIZES[1])
        machine.wait_for("^guest: waiting for the power button$")
        machine.process.send_signal(signal.SIGTERM)
        cls.status = machine.finish()

    def test_sigterm_powers_off_by_the_button_and_minivmm_is_silent(self):
        self.assertEqual((self.status, self.machine.stderr()), (0, ""))
        self.assertTrue(self.machine.restored)

    def test_no_unusual_warning(self):
        # The driver of hvc0 is a module.
        self.assert_no_warning("warnings", "unable to open an initial console")

    def test_all_cpus_are_online(self):
        self.assertEqual(self.section("online").lines(), ["4", "0-3"])
        self.assert_has("log", "smp: Brought up 1 node, 4 CPUs")

    def test_topology_is_a_socket_of_four_cores(self):
        values = self.section("topology").values()
        for cpu in range(4):
            place = f"cpu{cpu}/topology"
            self.assertEqual(values[f"{place}/physical_package_id"], "0")
            self.assertEqual(values[f"{place}/core_id"], str(cpu))
            self.assertEqual(values[f"{place}/thread_siblings_list"], str(cpu))

    def test_cpus_compute_alike(self):
        sums = self.section("work").lines()
        self.assertEqual((len(sums), len(set(sums))), (4, 1))

    def test_memory_below_and_above_4_gib(self):
        self.assert_has("memory", *RAM[MACHINE])
        total = int(self.section("memory").values()["MemTotal"].split()[0])
        self.assertGreater(total, 5.5 * MIB)

    def test_high_memory_keeps_its_contents(self):
        self.assertEqual(self.section("high-memory").status, 0)

    def test_interrupts(self):
        for number in range(5):  # disk, NICs, console, entropy device
            line = next(line for line in self.section("interrupts").lines()
                        if line.endswith(f"virtio{number}"))
            self.assertGreater(sum(map(int, line.split()[1:5])), 0, line)
        self.assert_has("interrupts", *NO_STRAY_INTERRUPTS)

    def test_console_is_hvc0(self):
        self.assertEqual(self.section("tty").lines(), ["/dev/hvc0", "hvc0"])

    def test_window_size_and_resize(self):
        for rows, columns in SIZES:
            self.assertIn(f"guest: size {rows} {columns}\n", self.machine.text())

    def test_root_disk_by_the_thread_engine(self):
        size = (FILES / "root.img").stat().st_size // 512
        self.assert_has("disk", f"^/sys/block/vda/size:{size}$", "^/dev/vda / ext4 rw")
        self.assertEqual(self.section("write").status, 0)

    def test_address_by_dhcp(self):
        self.assert_has("net", f"inet {GUEST}/24", "^52:54:00:aa:bb:cc$")

    def test_offloads(self):
        bits = self.section("features").text
        wanted = {"csum": 0, "guest csum": 1, "guest tso4": 7, "guest tso6": 8,
                  "host tso4": 11, "host tso6": 12, "mergeable buffers": 15, "event index": 29}
        for name, bit in wanted.items():
            with self.subTest(feature=name):
                self.assertEqual(bits[bit], "1")

    def test_ping(self):
        self.assert_has("ping", "3 packets received, 0% packet loss")

    def test_fetch_from_the_host(self):
        self.assert_has("fetch", sha256(self.page))

    def test_host_fetches_from_the_guest(self):
        self.assert_has("write", sha256(self.fetched))

    @unittest.skipUnless(os.access("/dev/vhost-net", os.W_OK), "no /dev/vhost-net")
    def test_vhost_serves_the_second_nic(self):
        servers = [name for name in self.threads if name.startswith("vhost-")]
        self.assertEqual(len(servers), 1)

    def test_second_nic(self):
        self.assert_has("fetch-vhost", sha256(self.page))
        self.assert_has("write", sha256(self.fetched_by_vhost))
