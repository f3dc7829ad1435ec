# SPDX-License-Identifier: MIT
"""posix.py DIR: checks that file operations in DIR do what POSIX says, as root and as user 65534.

Prints a line for each that does not, then the number of checks.
"""

import errno
import fcntl
import os
import socket
import stat
import sys

NOBODY = 65534
LONGEST = "n" * 255
checks = 0


def check(what, holds):
    global checks
    checks += 1
    if not holds:
        print("wrong:", what)


def fails(code, call, *arguments, **options):
    """Checks that the call fails with this error."""
    try:
        result = call(*arguments, **options)
    except OSError as error:
        result = errno.errorcode[error.errno]
    check(f"{call.__name__}{arguments}: {result}, not {code}", result == code)


def make(name, mode=0o644, content=b""):
    fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
    os.write(fd, content)
    os.close(fd)
    return name


def content(name):
    with open(name, "rb") as file:
        return file.read()


def mode(name):
    return stat.S_IMODE(os.lstat(name).st_mode)


def as_nobody(function):
    """Runs the function in a child without rights; its checks count here."""
    global checks
    sys.stdout.flush()
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        checks = 0
        try:
            function()
        except Exception as error:
            print("wrong:", function.__name__, repr(error))
        sys.stdout.flush()
        os.write(ends[1], bytes([checks]))
        os._exit(0)
    os.close(ends[1])
    checks += int.from_bytes(os.read(ends[0], 1), "little")
    os.close(ends[0])
    check(function.__name__, os.waitpid(child, 0)[1] == 0)


def opening():
    os.umask(0o027)
    make("a", 0o666)
    check("umask", mode("a") == 0o640)
    os.umask(0)
    make("b", 0o666)
    check("umask 0", mode("b") == 0o666)
    fd = os.open("readonly", os.O_CREAT | os.O_RDWR, 0o444)
    check("new file may be written", os.write(fd, b"x") == 1)
    os.close(fd)
    os.umask(0o022)
    os.symlink("a", "link")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "dangling")
    os.mkdir("d")
    fails("EEXIST", os.open, "a", os.O_CREAT | os.O_EXCL)
    fails("EEXIST", os.open, "dangling", os.O_CREAT | os.O_EXCL)
    fails("ENOENT", os.open, "none", os.O_RDONLY)
    fails("ENOENT", os.open, "none/x", os.O_CREAT)
    fails("ENOTDIR", os.open, "a/x", os.O_CREAT)
    fails("ENOTDIR", os.open, "a", os.O_DIRECTORY)
    fails("EISDIR", os.open, "d", os.O_WRONLY)
    fails("ELOOP", os.open, "loop", os.O_RDONLY)
    fails("ELOOP", os.open, "link", os.O_RDONLY | os.O_NOFOLLOW)
    fails("ENAMETOOLONG", os.open, LONGEST + "x", os.O_CREAT)
    make(LONGEST)
    check("longest name", LONGEST in os.listdir("."))
    os.close(os.open("dangling", os.O_CREAT | os.O_WRONLY))
    check("created through a link", os.path.exists("nowhere"))


def contents():
    make("f", content=b"0123456789")
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 2, os.SEEK_SET)
    os.write(fd, b"end")
    check("append", content("f") == b"0123456789end")
    check("read at an offset", os.pread(fd, 3, 4) == b"456")
    os.ftruncate(fd, 4)
    os.ftruncate(fd, 8)
    check("truncated and extended", content("f") == b"0123\0\0\0\0")
    os.close(fd)
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    check("O_TRUNC", os.stat("f").st_size == 0)
    fails("EISDIR", os.truncate, ".", 0)
    fails("EINVAL", os.truncate, "f", -1)
    fails("ENOENT", os.truncate, "none", 0)
    fd = os.open("f", os.O_RDWR)
    os.pwrite(fd, b"x", 1 << 33)
    check("sparse", os.fstat(fd).st_size == (1 << 33) + 1 and os.pread(fd, 1, 1 << 33) == b"x")
    check("hole", os.fstat(fd).st_blocks < 1 << 20)
    fcntl.flock(fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.posix_fallocate(fd, 0, 5000)
    os.fsync(fd)
    os.close(fd)


def directories():
    os.mkdir("d")
    before = os.stat(".").st_nlink
    os.mkdir("e")
    check("links of a directory", os.stat(".").st_nlink in (before + 1, 1))
    fails("EEXIST", os.mkdir, "d")
    fails("ENOENT", os.mkdir, "none/d")
    make("d/f")
    fails("ENOTEMPTY", os.rmdir, "d")
    fails("ENOTDIR", os.rmdir, "d/f")
    fails("EINVAL", os.rmdir, "d/.")
    fails("EISDIR", os.unlink, "d")
    os.unlink("d/f")
    os.rmdir("d")
    fails("ENOENT", os.rmdir, "d")
    names = {f"file-{number}" for number in range(300)}
    for name in names:
        make("e/" + name)
    check("list", set(os.listdir("e")) == names)
    for name in names:
        os.unlink("e/" + name)
    check("empty", os.listdir("e") == [])
    os.mkdir("g")
    os.chmod("g", 0o2777)
    os.chown("g", 0, 77)
    os.mkdir("g/h")
    check("group of the directory", (os.stat("g/h").st_gid, mode("g/h") & 0o2000) == (77, 0o2000))


def links():
    make("f", content=b"text")
    os.link("f", "g")
    check("links", os.stat("f").st_nlink == 2 and os.path.samefile("f", "g"))
    os.mkdir("d")
    fails("EPERM", os.link, "d", "e")
    fails("EEXIST", os.link, "f", "g")
    fails("ENOENT", os.link, "none", "h")
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    os.unlink("g")
    check("no links", os.fstat(fd).st_nlink == 0 and os.pread(fd, 4, 0) == b"text")
    os.write(fd, b"T")
    os.close(fd)
    target = "x" * 1000
    os.symlink(target, "s")
    check("symlink", os.readlink("s") == target and os.lstat("s").st_size == len(target))
    fails("EEXIST", os.symlink, "y", "s")
    fails("EINVAL", os.readlink, "d")


def renames():
    for name in ("d", "e", "full"):
        os.mkdir(name)
    make("full/x")
    make("f", content=b"f")
    make("g", content=b"g")
    os.link("f", "same")
    os.rename("f", "same")
    check("rename to the same file does nothing", os.path.exists("f"))
    os.rename("f", "g")
    check("replaced", content("g") == b"f" and not os.path.exists("f"))
    fails("EISDIR", os.rename, "g", "d")
    fails("ENOTDIR", os.rename, "d", "g")
    fails("ENOTEMPTY", os.rename, "d", "full")
    fails("EINVAL", os.rename, "d", "d/x")
    fails("ENOENT", os.rename, "none", "x")
    os.rename("full", "d")
    check("directory replaced", os.listdir("d") == ["x"])
    os.rename("d/x", "e/y")
    check("moved", os.listdir("e") == ["y"] and os.listdir("d") == [])
    os.chdir("e")
    os.rename("../e", "../moved")
    check("current directory moved", os.path.basename(os.getcwd()) == "moved")
    os.chdir("..")


def attributes():
    make("f", 0o755, b"text")
    before = os.stat("f")
    for bits in (0, 0o7777, 0o1644, 0o4755):
        os.chmod("f", bits)
        check(f"chmod {bits:o}", mode("f") == bits)
    check("ctime", os.stat("f").st_ctime_ns >= before.st_ctime_ns)
    for ids in ((77, 88), (0, 88), (77, 0), (NOBODY, NOBODY), (0, 0)):
        os.chown("f", *ids)
        check(f"chown {ids}", (os.stat("f").st_uid, os.stat("f").st_gid) == ids)
    check("chown clears set-ID bits", mode("f") & 0o6000 == 0)
    os.chown("f", 5, -1)
    check("only the user", (os.stat("f").st_uid, os.stat("f").st_gid) == (5, 0))
    os.utime("f", ns=(1_000_000_001, 2_000_000_002))
    check("utime", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns)
          == (1_000_000_001, 2_000_000_002))
    os.symlink("f", "link")
    os.chown("link", 8, 9, follow_symlinks=False)
    check("owner of a link", os.lstat("link").st_uid == 8 and os.stat("f").st_uid == 5)
    fails("ENOENT", os.chmod, "none", 0)
    check("statvfs", os.statvfs(".").f_namemax == 255)


def special():
    os.mkfifo("pipe", 0o600)
    check("pipe", stat.S_ISFIFO(os.stat("pipe").st_mode) and mode("pipe") == 0o600)
    both = os.open("pipe", os.O_RDWR)
    os.write(both, b"through")
    check("through the pipe", os.read(both, 10) == b"through")
    os.close(both)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        server.listen()
        client.connect("socket")
        check("socket", stat.S_ISSOCK(os.stat("socket").st_mode))
    fails("EEXIST", os.mkfifo, "socket")


def unprivileged():
    os.umask(0o022)
    for name, bits in (("closed", 0o700), ("open", 0o777), ("sticky", 0o1777)):
        os.mkdir(name)
        os.chmod(name, bits)
    make("closed/f")
    make("sticky/f")
    make("secret", 0o600)
    make("public", 0o644)
    make("program", 0o777)
    os.chmod("program", 0o4777)

    def nobody():
        make("open/mine")
        check("owner", (os.stat("open/mine").st_uid, os.stat("open/mine").st_gid)
              == (NOBODY, NOBODY))
        os.chmod("open/mine", 0o600)
        check("own file", content("open/mine") == b"")
        fails("EACCES", os.stat, "closed/f")
        fails("EACCES", os.open, "secret", os.O_RDONLY)
        fails("EACCES", os.open, "public", os.O_WRONLY)
        fails("EACCES", os.mkdir, "new")
        fails("EACCES", os.unlink, "public")
        fails("EPERM", os.chmod, "public", 0o777)
        fails("EPERM", os.chown, "public", NOBODY, NOBODY)
        fails("EPERM", os.chown, "open/mine", 0, 0)
        fails("EPERM", os.unlink, "sticky/f")
        fails("EPERM", os.rename, "sticky/f", "sticky/g")
        fails("EPERM", os.utime, "public", (1, 1))
        make("sticky/mine")
        os.unlink("sticky/mine")
        os.symlink("public", "open/link")
        os.mkfifo("open/pipe")
        os.mkdir("open/d")
        check("all theirs", {os.lstat("open/" + name).st_uid for name in os.listdir("open")}
              == {NOBODY})

    as_nobody(nobody)


def extended():
    make("f")
    try:
        os.setxattr("f", "user.name", b"value")
    except OSError as error:
        check("user attributes: " + str(error), error.errno == errno.EOPNOTSUPP)
        return
    check("attribute", os.getxattr("f", "user.name") == b"value")
    check("attributes", os.listxattr("f") == ["user.name"])
    fails("EEXIST", os.setxattr, "f", "user.name", b"", os.XATTR_CREATE)
    fails("ENODATA", os.setxattr, "f", "user.none", b"", os.XATTR_REPLACE)
    fails("ENODATA", os.getxattr, "f", "user.none")
    os.removexattr("f", "user.name")
    check("no attributes", os.listxattr("f") == [])


os.chdir(sys.argv[1])
for test in (opening, contents, directories, links, renames, attributes, special, unprivileged,
             extended):
    os.umask(0o022)
    os.mkdir(test.__name__)
    os.chdir(test.__name__)
    try:
        test()
    except Exception as error:
        print("wrong:", test.__name__, repr(error), "line", error.__traceback__.tb_next.tb_lineno
              if error.__traceback__.tb_next else "")
    os.chdir(os.path.join(sys.argv[1], ""))
print(f"{checks} checks")
