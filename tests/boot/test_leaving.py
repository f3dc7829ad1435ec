# SPDX-License-Identifier: MIT
"""Ways for a guest to end that need a full kernel: exit statuses and messages."""

from machine import FILES, MACHINE, SERIAL, GuestTest, Machine, only_on, run_tool

BLOCK = 64 << 10
INITRD = ("--initrd", FILES / "initrd-generic.img", "--memory", "256M", "--net", "none")
SAY_LOADER = "echo guest: loader $(cat /proc/sys/kernel/bootloader_type)"
LOADER_PVH = 0xb0  # Linux's boot loader type after a PVH entry


@only_on("x86_64", "Debian's arm64 kernels have no driver for pvpanic")
class Panic(GuestTest):
    """An ELF kernel entered by its PVH note, with its full log on the serial port, panics."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        machine = cls.boot(
            "--kernel", FILES / "vmlinux", *INITRD, "--cmdline",
            f'console=ttyS0 panic=0 minivmm.test="{SAY_LOADER}; echo c >/proc/sysrq-trigger"')
        cls.status = machine.finish()

    def test_status(self):
        self.assertEqual(self.status, 121)

    def test_message(self):
        self.assertEqual(self.machine.stderr(), "minivmm: the guest's kernel panicked\n")

    def test_entered_by_pvh(self):
        self.machine.wait_for(f"^guest: loader {LOADER_PVH}$")

    def test_log_is_complete(self):
        self.machine.wait_for(r"\A\[    0\.000000\] Linux version \d")
        self.machine.wait_for("Kernel panic - not syncing: sysrq triggered crash")
        self.machine.wait_for(r"</TASK>\n\Z")


class NoReboot(GuestTest):
    """A guest that reboots; an ELF kernel without PVH note, or a compressed Image."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        machine = cls.boot("--kernel", cls.kernel(), *INITRD, "--no-reboot", "--cmdline",
                           f'console={SERIAL} quiet minivmm.test="{SAY_LOADER}; reboot; sleep 100"')
        cls.status = machine.finish()

    @classmethod
    def kernel(cls):
        if MACHINE == "aarch64":
            return FILES / "vmlinuz.gz"
        kernel = cls.directory / "vmlinux"
        note = b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0"
        kernel.write_bytes((FILES / "vmlinux").read_bytes().replace(note, note.lower()))
        return kernel

    def test_status(self):
        self.assertEqual(self.status, 120)

    def test_minivmm_is_silent(self):
        self.assertEqual(self.machine.stderr(), "")

    @only_on("x86_64", "Arm kernels have one entry")
    def test_not_entered_by_pvh(self):
        self.machine.wait_for(f"^guest: loader (?!{LOADER_PVH}$)")


class Killed(GuestTest):
    """kill -9 during writes: the file has the data that the guest has flushed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.root = cls.copy("root.img")
        cls.data = cls.directory / "data.img"
        with open(cls.data, "wb") as data:
            data.truncate(1024 * BLOCK)
        cls.arguments = ("--kernel", FILES / "vmlinuz-cloud", "--initrd",
                         FILES / "initrd-cloud.img", "--memory", "128M", "--net", "none",
                         "--disk", cls.root, "--disk", cls.data, "--cmdline",
                         f'console={SERIAL} quiet root=/dev/vda rw '
                         'minivmm.test="sh /test/writer.sh"')
        machine = cls.boot(*cls.arguments)
        machine.wait_for("^guest: flushed 40$")
        machine.close()
        cls.flushed = machine.text().count("guest: flushed")

    def test_flushed_blocks_are_in_the_file(self):
        with open(self.data, "rb") as data:
            for number in range(self.flushed):
                line = f"block {number}\n".encode()
                wanted = (line * (BLOCK // len(line) + 1))[:BLOCK]
                self.assertEqual(data.read(BLOCK), wanted, f"block {number}")

    def test_file_system_recovers(self):
        self.assertIn(run_tool("e2fsck", "-fp", self.root).returncode, (0, 1))
        self.assertEqual(run_tool("e2fsck", "-fn", self.root).returncode, 0)

    def test_disk_is_unlocked_and_timeout_ends_the_next(self):
        machine = Machine("--timeout", "2s", *self.arguments)
        self.addCleanup(machine.close)
        status = machine.finish()
        self.assertEqual((status, machine.stderr()), (
            124, "minivmm: --timeout: the guest ran for more than 2000 ms\n"))
