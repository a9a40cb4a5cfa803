"""The content of the golden volumes, in a process of its own, since it works in a mounted drive.

    golden-content.py first DIR     what the first device makes
    golden-content.py second DIR    what a second one changes
    golden-content.py describe DIR  the whole tree as JSON, for comparing one with another

Run as root: it makes a device node. The content follows from a fixed seed, so that only times and keys differ from one
making to the next.
"""
import hashlib
import json
import os
import random
import stat
import sys

rng = random.Random(1)


def write(path, content, mode=0o644):
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)


def noise(length):
    return rng.randbytes(length)


def text(length):
    line = b"The quick brown fox jumps over the lazy dog. "
    return (line * (length // len(line) + 1))[:length]


def first(root):
    os.chdir(root)
    os.chmod(".", 0o750)
    write("empty", b"")
    write("inline", text(100))
    write("inline-longest", noise(2048), 0o600)
    write("inline-no-more", noise(2049))
    write("segment", noise(8192))
    write("segment-and-one", noise(8193))
    write("chunk", noise(65536))
    write("chunk-and-one", noise(65537))
    write("compressed", text(200_000))
    write("mixed", text(70_000) + noise(70_000) + bytes(70_000))
    write("runs", noise(1_300_001), 0o4755)
    with open("sparse", "wb") as file:
        for offset in (5, 100_000, 1_048_570, 4_000_000):
            file.seek(offset)
            file.write(noise(3000))
        file.truncate(6_000_000)
    with open("reserved", "wb") as file:
        file.write(noise(5000))
        os.posix_fallocate(file.fileno(), 0, 100_000)
    with open("rewritten", "wb") as file:
        file.write(noise(300_000))
        file.flush()
        os.fsync(file.fileno())
        file.seek(70_001)
        file.write(text(50_000))
        file.flush()
        os.fsync(file.fileno())
    write("original", noise(150_000))
    with open("original", "rb") as source, open("clone", "wb") as copy:
        os.fsync(source.fileno())
        os.copy_file_range(source.fileno(), copy.fileno(), 150_000)
    os.mkdir("folder", 0o1777)
    os.mkdir("folder/deeper")
    write("folder/deeper/file", text(3000))
    os.link("compressed", "folder/second name")
    os.symlink("../compressed", "folder/link")
    os.symlink("x" * 4000, "long link")
    os.mkfifo("fifo", 0o622)
    os.mknod("device", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    os.chown("inline", 1234, 4_000_000_000)
    os.setxattr("inline", "user.note", b"a value \x00 of bytes")
    os.setxattr("compressed", "user.long", noise(2000))
    os.setxattr("folder", "user.empty", b"")
    for name in (b"a" * 255, b"new\nline", b"\xff\xfe not UTF-8", "schön 漢字 🦭".encode(), b"-rf", b" ", b"con", b"CASE", b"case"):
        write(name, name)
    os.mkdir("many")
    for number in range(1500):
        write(f"many/{number:04}", b"%d" % number)
    os.utime("inline", ns=(981_173_106_000_000_007, -1_500_000_000))
    os.utime("folder/link", ns=(5, 6), follow_symlinks=False)


def second(root):
    os.chdir(root)
    write("of the second device", noise(20_000))
    os.rename("folder/deeper", "moved")
    os.remove("many/0007")
    os.rename("many/0008", "many/renamed")
    os.link("many/0009", "many/linked here")
    os.remove("chunk")
    with open("runs", "r+b") as file:
        file.seek(1_000_000)
        file.write(noise(4096))
        file.truncate(1_200_000)
    with open("compressed", "ab") as file:
        file.write(noise(1000))
    os.setxattr("moved", "user.note", b"moved")
    os.removexattr("inline", "user.note")


def described(path):
    status = os.lstat(path)
    entry = {
        "mode": status.st_mode,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "links": 1 if stat.S_ISDIR(status.st_mode) else status.st_nlink,
        "mtime": str(status.st_mtime_ns),
    }
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = file.read()
        entry["size"] = len(content)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    if stat.S_ISLNK(status.st_mode):
        entry["target"] = os.readlink(path).decode("latin-1")
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        entry["device"] = status.st_rdev
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]
    names = [name for name in names if not name.startswith("user.sealdrive.")]
    entry["xattrs"] = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}
    return entry, (status.st_dev, status.st_ino)


def describe(root):
    root = os.fsencode(root)
    entries = {}
    inodes = {}
    pending = [b""]
    while pending:
        path = pending.pop()
        where = os.path.join(root, path) if path else root
        entry, inode = described(where)
        name = path.decode("latin-1")
        entries[name] = entry
        if not stat.S_ISDIR(entry["mode"]):
            inodes.setdefault(inode, []).append(name)
            continue
        pending.extend(os.path.join(path, name) for name in os.listdir(where))
    for names in inodes.values():
        for name in names if len(names) > 1 else []:
            entries[name]["same"] = sorted(names)
    json.dump(entries, sys.stdout, separators=(",", ":"), sort_keys=True)


if __name__ == "__main__":
    {"first": first, "second": second, "describe": describe}[sys.argv[1]](sys.argv[2])
