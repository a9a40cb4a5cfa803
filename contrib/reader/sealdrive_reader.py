#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-or-later
"""An independent reader of Sealdrive volumes, written from doc/format.md alone.

The sections of this file stand in the order of that page and have its names; read them side by side. What the page
calls damage is collected as a problem and everything else is read all the same; what shows that the store or the log
cannot be trusted ends the program. The store is taken to be hostile: bounds are checked before anything is allocated.
"""

import argparse
import base64
import errno
import hashlib
import hmac
import json
import os
import re
import resource
import stat
import struct
import sys
import time
import unicodedata
from collections import OrderedDict

try:
    import argon2.low_level
    import nacl.exceptions
    import nacl.signing
    import zstandard
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
except ImportError as missing:
    sys.exit(f"sealdrive_reader: {missing}; apt-get install python3-cryptography python3-nacl python3-zstandard "
             "python3-argon2")

EXIT_DAMAGE, EXIT_USAGE, EXIT_LOCKED, EXIT_NOT_A_VOLUME, EXIT_UNTRUSTED, EXIT_INTERRUPTED = 1, 2, 3, 4, 8, 130
MIB = 1 << 20
MAX_KEYSLOT = 3_100
MAX_GENESIS = MIB
MAX_COMMIT = 56 * MIB
MAX_TABLE = 48 * MIB
MAX_CHUNK = 4_194_304
MAX_PAGE = 2 * MIB
MAX_PACK = 1 << 31
MAX_XATTR = 65_536
MAX_SLOTS_TRIED = 16
LIMIT = 1 << 53
ZEROS = bytes(32)


class FormatError(Exception):
    """Bytes that are not what the page says."""


class Fatal(Exception):
    """Nothing can be read, or what could be read cannot be trusted."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def need(condition, message):
    """A strict decoder's check."""
    if not condition:
        raise FormatError(message)


# ---------------------------------------------------------------------------------------------------------------------
# Encodings

U32, U64 = struct.Struct("<I"), struct.Struct("<Q")
BE64 = struct.Struct(">Q")


class Decoder:
    """Reads the encodings of the page from bytes, strictly."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, size):
        end = self.at + size
        need(end <= len(self.data), "cut off")
        piece = self.data[self.at:end]
        self.at = end
        return bytes(piece)

    def u8(self):
        return self.raw(1)[0]

    def u32(self):
        return U32.unpack(self.raw(4))[0]

    def u53(self):
        value = U64.unpack(self.raw(8))[0]
        need(value < LIMIT, "number out of range")
        return value

    def i53(self):
        value = int.from_bytes(self.raw(8), "little", signed=True)
        need(-LIMIT < value < LIMIT, "number out of range")
        return value

    def varint(self):
        data, at, value, shift = self.data, self.at, 0, 0
        while True:
            need(at < len(data), "cut off")
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            need(shift < 56, "number out of range")
        need(value < LIMIT and (byte or not shift), "number out of range or not in its shortest form")
        self.at = at
        return value

    def zigzag(self):
        value = self.varint()
        return -(value + 1) // 2 if value & 1 else value // 2

    def time(self):
        """Returns (seconds, nanoseconds)."""
        seconds, nanoseconds = self.zigzag(), self.u32()
        need(nanoseconds < 10**9, "nanoseconds out of range")
        return seconds, nanoseconds

    def bytes(self, least=0, most=LIMIT):
        size = self.varint()
        need(least <= size <= most, "length out of range")
        return self.raw(size)

    def text(self, most=255):
        return utf8(self.bytes(0, most))

    def zeros(self, size):
        need(not any(self.raw(size)), "bytes that must be zero are not")

    def one_of(self, values, what):
        value = self.u8()
        need(value in values, f"unknown {what} {value}")
        return value

    def rest(self):
        return self.raw(len(self.data) - self.at)

    def end(self):
        need(self.at == len(self.data), "bytes behind the end")


def utf8(raw):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("text is not UTF-8") from None


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def i53(value):
    return value.to_bytes(8, "little", signed=True)


def padme(size):
    """Encodings, "PADME"."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    step = 1 << max(0, exponent - exponent.bit_length())
    return (size + step - 1) // step * step


def zstd_frame_size(data, plain_size):
    """Encodings, "Zstandard": walks one frame's header and blocks, refuses what the page refuses, and finds its end."""
    walk = Decoder(data)
    need(walk.raw(4) == b"\x28\xb5\x2f\xfd", "no zstd frame")
    descriptor = walk.u8()
    single, content_flag = descriptor >> 5 & 1, descriptor >> 6
    need(not descriptor & 8, "zstd: the reserved bit is set")
    need(not descriptor & 3, "zstd: a dictionary is named")
    window = 0
    if not single:
        byte = walk.u8()
        base = 1 << (10 + (byte >> 3))
        window = base + base // 8 * (byte & 7)
    width = (single, 2, 4, 8)[content_flag]
    if width:
        content = int.from_bytes(walk.raw(width), "little") + (256 if width == 2 else 0)
        need(content == plain_size, "zstd: another content size")
        window = content if single else window
    need(window <= 8 * MIB, "zstd: the window is too large")
    possible = 0
    last = False
    while not last:
        header = int.from_bytes(walk.raw(3), "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        need(kind != 3 and size <= 131_072, "zstd: a block is too large or reserved")
        walk.raw(1 if kind == 1 else size)
        possible += 131_072 if kind == 2 else size
        need(possible <= 8 * plain_size + MIB, "zstd: blocks could yield far too much")
    need(possible >= plain_size, "zstd: blocks yield too little")
    walk.raw(4 if descriptor & 4 else 0)
    return walk.at


def unzstd(data, plain_size):
    """Returns the plain bytes of the zstd frame at the start of data, and the frame's size."""
    size = zstd_frame_size(data, plain_size)
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=8 * MIB)
        plain = decompressor.decompress(bytes(data[:size]), max_output_size=max(1, plain_size))
    except zstandard.ZstdError as error:
        raise FormatError(f"zstd: {error}") from None
    need(len(plain) == plain_size, "zstd: another size than it should have")
    return plain, size


# ---------------------------------------------------------------------------------------------------------------------
# Keys: the names of objects in the store

KEY_NAMES = {"keys": re.compile(r"[0-9a-f]{16}"), "log": re.compile(r"[0-9a-f]{16}-[0-9a-f]{12}")}


class Store:
    """A directory as a store: the object KEY is the file KEY, or the file `_body` in the directory KEY. No link is
    followed, and nothing but regular files is read."""

    def __init__(self, path):
        try:
            self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Fatal(EXIT_NOT_A_VOLUME, f"{printable(os.fsencode(path))}: {error.strerror}") from None

    def _descend(self, parts):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(".", flags, dir_fd=self.root)
        for part in parts:
            try:
                inner = os.open(part, flags, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder

    def names(self, folder):
        """The well-formed names in keys/ or log/, in order."""
        try:
            fd = self._descend([folder])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Fatal(EXIT_NOT_A_VOLUME, f"the store's {folder}/: {error.strerror}") from None
        try:
            return sorted(name for name in os.listdir(fd) if KEY_NAMES[folder].fullmatch(name))
        finally:
            os.close(fd)

    def open(self, key):
        """A file descriptor of the object, and its size."""
        *folders, name = key.split("/")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            folder = self._descend(folders)
            try:
                fd = os.open(name, flags, dir_fd=folder)
            finally:
                os.close(folder)
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                folder = fd
                try:
                    fd = os.open("_body", flags, dir_fd=folder)
                finally:
                    os.close(folder)
                info = os.fstat(fd)
        except OSError as error:
            raise FormatError(f"{key}: {error.strerror}") from None
        if not stat.S_ISREG(info.st_mode):
            os.close(fd)
            raise FormatError(f"{key}: not a regular file")
        return fd, info.st_size

    def get(self, key, most):
        """A whole object of at most that many bytes."""
        fd, size = self.open(key)
        try:
            need(size <= most, f"{key}: larger than such an object can be")
            return read_at(fd, 0, size, key)
        finally:
            os.close(fd)


def read_at(fd, offset, size, key):
    pieces = []
    try:
        while size:
            piece = os.pread(fd, min(size, 16 * MIB), offset)
            need(piece, f"{key}: cut off")
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
    except OSError as error:
        raise FormatError(f"{key}: {error.strerror}") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def log_prf(root_secret, sequence):
    """Keys: the part of a commit's name behind the number."""
    key = subkey(root_secret, "log-name")
    return hashlib.blake2b(U64.pack(sequence), key=key, digest_size=32).digest()[:6].hex()


def pack_key(pack_id):
    name = pack_id.hex()
    return f"packs/{name[:2]}/{name}"


# ---------------------------------------------------------------------------------------------------------------------
# Hashes, Key hierarchy


def H(data):
    return hashlib.sha256(data).digest()


def subkey(secret, purpose):
    return hashlib.blake2b(b"sealdrive v1 subkey " + purpose.encode(), key=secret, digest_size=32).digest()


def recovery_bytes(sentence):
    """Key hierarchy: the 32 bytes behind 24 BIP-39 words."""
    path = os.path.join(os.path.dirname(os.path.realpath(__file__)), "english.txt")
    try:
        with open(path, encoding="ascii") as file:
            index = {word: number for number, word in enumerate(file.read().split())}
    except OSError as error:
        raise Fatal(EXIT_USAGE, f"{path}: {error.strerror}") from None
    words = sentence.lower().split()
    if len(words) != 24:
        raise Fatal(EXIT_USAGE, f"there must be 24 recovery words, not {len(words)}")
    bits = 0
    for position, word in enumerate(words, 1):
        if word not in index:
            raise Fatal(EXIT_USAGE, f"recovery word {position} is not in the list")
        bits = bits << 11 | index[word]
    secret = (bits >> 8).to_bytes(32, "big")
    if bits & 255 != H(secret)[0]:
        raise Fatal(EXIT_USAGE, "the recovery words do not fit together: one of them is wrong, or their order")
    return secret


class Secret:
    """What the user knows or has: the slot type that it opens, and how a KEK comes from it."""

    def __init__(self, slot_type, data):
        self.slot_type, self.data = slot_type, data

    def kek(self, slot):
        if self.slot_type == 3:
            return hashlib.blake2b(self.data, key=slot.kdf_salt, digest_size=32).digest()
        try:
            return argon2.low_level.hash_secret_raw(
                self.data, slot.kdf_salt, time_cost=slot.passes, memory_cost=slot.memory, parallelism=slot.lanes,
                hash_len=32, type=argon2.low_level.Type.ID, version=19)
        except argon2.exceptions.HashingError as error:
            raise Fatal(EXIT_LOCKED, f"Argon2id with {slot.memory // 1024} MiB: {error}") from None


def signed(public_key, message, signature):
    """Whether it is the Ed25519 signature of the message, by libsodium's rules, which are narrower than RFC 8032: all
    readers must decide alike, and other libraries take keys and points of small order."""
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
        return True
    except nacl.exceptions.CryptoError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# The seal

KINDS = {"keyslot": 1, "genesis": 2, "commit": 3, "chunk": 4, "page": 5, "pack index": 6, "pack footer": 7,
         "wrapped root": 11}
AEADS = {1: AESGCM, 2: ChaCha20Poly1305}
SEGMENT, TAG = 8_192, 16
FRAMED, BARE = 80, 72


def seal_okm(key, suite, kind, epoch, volume_id, place, salt):
    header = b"SEAL" + bytes([1, suite, KINDS[kind], 0])
    context = bytes([KINDS[kind]]) + U32.pack(epoch) + volume_id + place
    message = b"sealdrive v1 seal" + header + U32.pack(len(context)) + context + salt
    return header, hashlib.blake2b(message, key=key, digest_size=64).digest()


def open_bare(sealed, key, suite, kind, epoch, volume_id, place):
    need(len(sealed) >= BARE, "too short for a seal")
    salt, commitment, ciphertext = sealed[:24], sealed[24:56], sealed[56:]
    header, okm = seal_okm(key, suite, kind, epoch, volume_id, place, salt)
    need(hmac.compare_digest(okm[32:], commitment), f"a {kind} does not open here")
    try:
        return AEADS[suite](okm[:32]).decrypt(bytes(12), ciphertext, header + salt + commitment)
    except InvalidTag:
        raise FormatError(f"a {kind} was changed") from None


def open_framed(sealed, key, kind, epoch, volume_id, place):
    need(len(sealed) >= FRAMED and sealed[:5] == b"SEAL\x01", f"no sealed {kind}")
    need(sealed[5] in AEADS and sealed[6] == KINDS[kind] and sealed[7] == 0, f"no sealed {kind}")
    return open_bare(sealed[8:], key, sealed[5], kind, epoch, volume_id, place)


def segment_count(stored):
    return (stored + SEGMENT - 1) // SEGMENT


def sealed_chunk_size(stored):
    return stored + TAG * segment_count(stored)


def content_hash(hashes):
    """The seal of a chunk: H of the segments' hashes, or the only one."""
    return hashes[0] if len(hashes) == 1 else H(b"".join(hashes))


# ---------------------------------------------------------------------------------------------------------------------
# ML-KEM-768 (FIPS 203) and X-Wing (draft-connolly-cfrg-xwing-kem), for "Keyslot". Not in constant time: it runs where
# the secret's owner does.

Q, N, K_RANK = 3329, 256, 3


def _reversed7(number):
    return int(f"{number:07b}"[::-1], 2)


ZETAS = [pow(17, _reversed7(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * _reversed7(i) + 1, Q) for i in range(128)]


def ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j + length], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        length //= 2
    return f


def ntt_inverse(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def ntt_dot(left, right):
    """The sum of the products of two vectors of polynomials in the NTT domain."""
    out = [0] * N
    for f, g in zip(left, right):
        for i in range(128):
            a, b, c, d = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            out[2 * i] += a * c + b * d % Q * GAMMAS[i]
            out[2 * i + 1] += a * d + b * c
    return [x % Q for x in out]


def add(f, g):
    return [(x + y) % Q for x, y in zip(f, g)]


def sample_ntt(seed):
    stream, out, at = hashlib.shake_128(seed).digest(1_344), [], 0
    while len(out) < N:
        if at + 3 > len(stream):
            stream = hashlib.shake_128(seed).digest(2 * len(stream))
        a, b, c = stream[at:at + 3]
        at += 3
        out += [x for x in (a | (b & 15) << 8, b >> 4 | c << 4) if x < Q]
    return out[:N]


def sample_noise(seed, counter):
    bits = int.from_bytes(hashlib.shake_256(seed + bytes([counter])).digest(128), "little")
    nibbles = [bits >> 4 * i & 15 for i in range(N)]
    return [((x & 1) + (x >> 1 & 1) - (x >> 2 & 1) - (x >> 3)) % Q for x in nibbles]


def pack_bits(f, width):
    return sum(x << width * i for i, x in enumerate(f)).to_bytes(32 * width, "little")


def unpack_bits(data, width):
    bits = int.from_bytes(data, "little")
    return [bits >> width * i & (1 << width) - 1 for i in range(N)]


def compress(f, width):
    return [((x << width) + Q // 2) // Q & (1 << width) - 1 for x in f]


def decompress(f, width):
    return [(x * Q + (1 << width - 1)) >> width for x in f]


def split(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


def mlkem_matrix(rho):
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K_RANK)] for i in range(K_RANK)]


def mlkem_keygen(d, z):
    """KeyGen_internal: the encapsulation key, and the decapsulation key as (s, ek, H(ek), z)."""
    seeds = hashlib.sha3_512(d + bytes([K_RANK])).digest()
    rho, sigma = seeds[:32], seeds[32:]
    s = [ntt(sample_noise(sigma, i)) for i in range(K_RANK)]
    e = [ntt(sample_noise(sigma, i + K_RANK)) for i in range(K_RANK)]
    t = [add(ntt_dot(row, s), e[i]) for i, row in enumerate(mlkem_matrix(rho))]
    ek = b"".join(pack_bits(f, 12) for f in t) + rho
    return ek, (s, ek, hashlib.sha3_256(ek).digest(), z)


def mlkem_encrypt(ek, message, randomness):
    t = [unpack_bits(part, 12) for part in split(ek[:1_152], 384)]
    matrix = mlkem_matrix(ek[1_152:])
    y = [ntt(sample_noise(randomness, i)) for i in range(K_RANK)]
    e1 = [sample_noise(randomness, i + K_RANK) for i in range(K_RANK)]
    e2 = sample_noise(randomness, 2 * K_RANK)
    u = [add(ntt_inverse(ntt_dot([matrix[j][i] for j in range(K_RANK)], y)), e1[i]) for i in range(K_RANK)]
    v = add(add(ntt_inverse(ntt_dot(t, y)), e2), decompress(unpack_bits(message, 1), 1))
    return b"".join(pack_bits(compress(f, 10), 10) for f in u) + pack_bits(compress(v, 4), 4)


def mlkem_encaps(ek, message):
    okm = hashlib.sha3_512(message + hashlib.sha3_256(ek).digest()).digest()
    return okm[:32], mlkem_encrypt(ek, message, okm[32:])


def mlkem_decaps(dk, ciphertext):
    s, ek, ek_hash, z = dk
    u = [decompress(unpack_bits(part, 10), 10) for part in split(ciphertext[:960], 320)]
    v = decompress(unpack_bits(ciphertext[960:], 4), 4)
    w = ntt_inverse(ntt_dot(s, [ntt(f) for f in u]))
    message = pack_bits(compress([(x - y) % Q for x, y in zip(v, w)], 1), 1)
    okm = hashlib.sha3_512(message + ek_hash).digest()
    if hmac.compare_digest(mlkem_encrypt(ek, message, okm[32:]), ciphertext):
        return okm[:32]
    return hashlib.shake_256(z + ciphertext).digest(32)


def x25519(secret, public):
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise FormatError("X25519 gives zeros") from None


def raw_public(private_key):
    return private_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


class XWing:
    """The X-Wing key pair of a seed."""

    def __init__(self, seed):
        expanded = hashlib.shake_256(seed).digest(96)
        ek, self.dk = mlkem_keygen(expanded[:32], expanded[32:64])
        self.x_secret = expanded[64:]
        self.x_public = raw_public(X25519PrivateKey.from_private_bytes(self.x_secret))
        self.public = ek + self.x_public

    def decapsulate(self, ciphertext):
        m_shared = mlkem_decaps(self.dk, ciphertext[:1_088])
        return xwing_combine(m_shared, x25519(self.x_secret, ciphertext[1_088:]), ciphertext[1_088:], self.x_public)


def xwing_combine(m_shared, x_shared, x_ciphertext, x_public):
    return hashlib.sha3_256(m_shared + x_shared + x_ciphertext + x_public + b"\\.//^\\").digest()


def self_test():
    """X-Wing against the first vector of the draft's appendix (versions 08 and later); the long values as SHA-256."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    eseed = bytes.fromhex("3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2"
                          "35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2")
    pair = XWing(seed)
    m_shared, m_ciphertext = mlkem_encaps(pair.public[:1_184], eseed[:32])
    x_ciphertext = raw_public(X25519PrivateKey.from_private_bytes(eseed[32:]))
    ciphertext = m_ciphertext + x_ciphertext
    shared = xwing_combine(m_shared, x25519(eseed[32:], pair.x_public), x_ciphertext, pair.x_public)
    changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    rejected = hashlib.shake_256(pair.dk[3] + changed[:1_088]).digest(32)
    checks = {
        "X-Wing public key": H(pair.public).hex() == "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
        "X-Wing ciphertext": H(ciphertext).hex() == "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
        "X-Wing shared secret": shared.hex() == "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
        "X-Wing decapsulation": pair.decapsulate(ciphertext) == shared,
        "ML-KEM implicit rejection": mlkem_decaps(pair.dk, changed[:1_088]) == rejected,
        "PADME": [padme(n) for n in (0, 1, 2, 9, 1_000, 1_025)] == [0, 1, 2, 10, 1_024, 1_088],
        "zigzag": [Decoder(varint(n)).zigzag() for n in range(5)] == [0, -1, 1, -2, 2],
        "recovery words": recovery_bytes("abandon " * 23 + "art") == ZEROS,
        "Argon2id": Secret(1, b"password").kek(TestSlot).hex()
        == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
    }
    for name, passed in checks.items():
        print(f"{'ok    ' if passed else 'FAILED'} {name}")
    return 0 if all(checks.values()) else EXIT_DAMAGE


class TestSlot:
    """The cost and salt of a test of Argon2's reference implementation."""
    kdf_salt, passes, memory, lanes = b"somesalt", 2, 65_536, 1


# ---------------------------------------------------------------------------------------------------------------------
# Keyslot


class Keyslot:
    """One keyslot, decoded; nothing in it is trusted before `open`."""

    def __init__(self, name, data):
        read = Decoder(data)
        need(read.raw(8) == b"SDSLOT01", "no keyslot")
        self.slot_type = read.one_of((1, 2, 3), "slot type")
        read.zeros(3)
        self.memory, self.passes, self.lanes = read.u32(), read.u32(), read.u32()
        self.kdf_salt, self.slot_id, self.volume_id, self.owner = read.raw(16), read.raw(8), read.raw(32), read.raw(32)
        need(self.slot_id.hex() == name, "a keyslot under the name of another")
        self.created = read.u53()
        self.label = utf8(read.raw(read.u8()))
        self.slot_key = read.raw(1_216)
        self.header = data[:read.at]
        self.anchor, self.encapsulation, self.wrapped = read.raw(80), read.raw(1_120), read.raw(158)
        self.signed = data[:read.at]
        self.signature = read.raw(64)
        read.end()
        if self.slot_type == 3:
            need(self.memory == self.passes == self.lanes == 0, "a key file's slot with a KDF cost")
        else:
            need(65_536 <= self.memory <= 1_048_576 and 2 <= self.passes <= 16 and self.lanes == 1,
                 "a KDF cost out of bounds")

    def open(self, secret):
        """Returns (generation, since, root secret), or None when the secret is not this slot's."""
        kek = secret.kek(self)
        try:
            open_framed(self.anchor, subkey(kek, "anchor"), "keyslot", 0, ZEROS, self.header)
        except FormatError:
            return None
        need(signed(self.owner, b"sealdrive v1 keyslot" + self.signed, self.signature), "the owner has not signed it")
        pair = XWing(subkey(kek, "kem"))
        need(pair.public == self.slot_key, "its slot key is not its secret's")
        shared = pair.decapsulate(self.encapsulation)
        read = Decoder(open_framed(self.wrapped, shared, "wrapped root", 0, ZEROS, H(self.header)))
        need(read.u8() == 1, "unknown version of a wrapped root")
        generation, since, root_secret = read.u32(), read.u53(), read.raw(32)
        rights, owner_seed = read.one_of((0, 1), "rights"), read.raw(32)
        read.end()
        need(generation >= 1, "generation 0")
        if rights:
            need(nacl.signing.SigningKey(owner_seed).verify_key.encode() == self.owner, "another owner's seed")
        else:
            need(owner_seed == ZEROS, "an owner's seed without the right")
        return generation, since, root_secret


def open_keyslot(store, secret, most_memory):
    """How a volume is read, step 1. Returns the slot, generation, since and root secret."""
    names = store.names("keys")
    if not names:
        raise Fatal(EXIT_NOT_A_VOLUME, "there is no keyslot: this is no volume, or not all of it")
    slots, reasons = [], []
    for name in names:
        try:
            slot = Keyslot(name, store.get(f"keys/{name}", MAX_KEYSLOT))
            if slot.slot_type == secret.slot_type:
                need(slot.memory <= most_memory * 1024,
                     f"wants {slot.memory // 1024} MiB of memory; see --slot-memory")
                slots.append(slot)
        except FormatError as error:
            reasons.append(f"keyslot {name}: {error}")
    for slot in sorted(slots, key=lambda slot: slot.memory * slot.passes)[:MAX_SLOTS_TRIED]:
        try:
            opened = slot.open(secret)
            if opened:
                return slot, *opened
        except FormatError as error:
            reasons.append(f"keyslot {slot.slot_id.hex()}: {error}")
    for reason in reasons:
        warn(reason)
    raise Fatal(EXIT_LOCKED, f"none of {len(slots)} keyslots of this type opens with this secret")


# ---------------------------------------------------------------------------------------------------------------------
# Commit

OWNER, ADMIN, WRITER, READER = 0, 1, 2, 3
ACTIVE, REMOVED, LAPSED = 0, 1, 2
ADMISSION, REMOVAL, LAPSE, KEYRING, KEYSLOTS, FEATURES, STATE, WORK = 1, 2, 3, 4, 5, 6, 7, 13
MAY = {ADMISSION: (OWNER, ADMIN), REMOVAL: (OWNER, ADMIN), LAPSE: (OWNER, ADMIN, WRITER), KEYRING: (OWNER, ADMIN),
       KEYSLOTS: (OWNER, ADMIN), FEATURES: (OWNER, ADMIN), STATE: (OWNER, ADMIN, WRITER), WORK: (ADMIN, WRITER)}
LETTERS = frozenset(b"IDNEXOSCG")


class Commit:
    """The table of "Commit", from the payload of its seal."""

    def __init__(self, payload):
        frame = Decoder(payload)
        frame.zeros(4)
        size = frame.u32()
        need(size <= MAX_TABLE, "a commit that is too large")
        table = frame.raw(size)
        need(len(payload) == padme(8 + size) and not any(frame.rest()), "a commit with other padding")
        self._decode(table)

    def _decode(self, table):
        read = Decoder(table)
        need(read.u8() == 1, "unknown version of a commit")
        self.sequence, self.previous, self.author, self.counter = read.u53(), read.raw(32), read.raw(16), read.u53()
        self.previous_own, self.wall_time = read.u53(), read.i53()
        self.program = [read.varint() for _ in range(3)]
        self.last_checkpoint, self.next_ino, self.serial = read.u53(), read.u53(), read.u53()
        self.files_delta, self.bytes_delta = read.i53(), read.i53()
        self.records = []
        for _ in range(read.varint()):
            kind = read.u8()
            self.records.append((kind, decode_record(kind, read.bytes())))
        self.packs = [(read.raw(16), read.varint(), read.varint(), read.raw(32)) for _ in range(read.varint())]
        self._decode_checkpoint(read)
        self._decode_mutations(read)
        self.signed = table[:read.at]
        self.signature = read.raw(64)
        read.end()

    def _decode_checkpoint(self, read):
        self.checkpoint = read.one_of((0, 1, 2), "checkpoint")
        self.root = None
        if self.checkpoint:
            self.root = PageReference(read.raw(56)) if self.checkpoint == 1 else None
            self.covers, self.total_files, self.total_bytes = read.u53(), read.u53(), read.u53()

    def _decode_mutations(self, read):
        """Mutations: (key, value or None), keys ascending."""
        self.mutations, before = [], b""
        for _ in range(read.varint()):
            key, size = read.bytes(1, 65_535), read.varint()
            need(key > before, "mutations out of order")
            need(key[0] in LETTERS or key[:1] == b"P" and size == 0, f"a key of another letter: {key[:1]!r}")
            self.mutations.append((key, read.raw(size - 1) if size else None))
            before = key

    def signed_by(self, key, volume_id):
        return signed(key, b"sealdrive v1 commit" + volume_id + self.signed, self.signature)

    def of(self, kind):
        return [body for record, body in self.records if record == kind]

    def own_admission(self):
        """The first record, if it admits the author."""
        kind, body = self.records[0] if self.records else (None, None)
        return body if kind == ADMISSION and body.id == self.author else None


class PageReference:
    def __init__(self, raw):
        self.raw, self.pack = raw, raw[:16]
        self.offset, self.size = struct.unpack_from("<II", raw, 16)
        self.hash = raw[24:]


# Records


class Enrolment:
    """A device of the roster: its enrolment, and what the state says of it besides."""

    def __init__(self, read):
        start = read.at
        self.id, self.index = read.raw(16), read.varint()
        need(1 <= self.index <= 8_191, "a device's index is out of range")
        self.role = read.one_of((ADMIN, WRITER, READER), "role")
        self.signing_key, self.encryption_key = read.raw(32), read.raw(1_216)
        self.admitted_by = read.varint()
        self.program = [read.varint() for _ in range(3)]
        self.name = read.text()
        self.certificate = read.raw(64)
        self.raw = bytes(read.data[start:read.at])
        self.enrolled = self.status = self.counter = self.newest = self.next_ino = self.serial = 0

    def certified(self, by, volume_id):
        message = b"sealdrive v1 admission" + volume_id + self.id + bytes([self.role])
        return signed(by, message + self.signing_key + self.encryption_key, self.certificate)

    def encoded(self):
        numbers = b"".join(map(varint, (self.counter, self.newest, self.next_ino, self.serial)))
        return self.raw + i53(self.enrolled) + bytes([self.status]) + numbers


def decode_record(kind, body):
    """The decoded body, which for lists that the state repeats is the bytes themselves."""
    read = Decoder(body)
    if kind == ADMISSION:
        value = Enrolment(read)
    elif kind == REMOVAL:
        value = read.varint()
        read.one_of((1,), "removal")
    elif kind == LAPSE:
        value = read.varint()
    elif kind == KEYRING:
        value = Keyring(read)
    elif kind == KEYSLOTS:
        value = decode_keyslots(read)
    elif kind == FEATURES:
        value = Features(read)
    elif kind == STATE:
        return body
    elif kind == WORK:
        value = [WorkGroup(read) for _ in range(read.varint())]
    else:
        raise FormatError(f"record of unknown type {kind}")
    read.end()
    return value


class WorkGroup:
    """Operations of one device, which a reader of the tree does not need."""

    def __init__(self, read):
        self.device, self.carried = read.varint(), read.one_of((0, 1), "source") == 1
        if self.carried:
            read.u53(), read.raw(32)
        self.first, self.last = read.u53(), read.u53()
        need(self.first <= self.last, "serials out of order")
        read.bytes()


class Keyring:
    def __init__(self, read):
        start = read.at
        self.generation, self.keys, before = read.u32(), {}, 0
        for _ in range(read.varint()):
            number = read.varint()
            need(before < number < self.generation, "a keyring's epochs")
            self.keys[number], before = read.raw(32), number
        self.raw = bytes(read.data[start:read.at])


def decode_keyslots(read):
    start = read.at
    for _ in range(read.varint()):
        read.raw(8)
        read.one_of((1, 2, 3), "slot type")
        read.raw(32)
        read.text()
    return bytes(read.data[start:read.at])


class Features:
    def __init__(self, read):
        start, self.lists = read.at, []
        for _ in range(3):
            names = [read.bytes(1, 63) for _ in range(read.varint())]
            need(all(33 <= byte <= 126 for name in names for byte in name), "a feature's name is not visible ASCII")
            need(all(a < b for a, b in zip(names, names[1:])), "features out of order")
            self.lists.append(names)
        self.raw = bytes(read.data[start:read.at])

    def refuse_unknown(self):
        unknown = [name for name in self.lists[2] if name != b"work"]
        if unknown:
            names = ", ".join(printable(name) for name in unknown)
            raise Fatal(EXIT_UNTRUSTED, f"the volume needs a newer reader, which knows: {names}")


class LogState:
    """The state of the log ("State"): what the chain's rules are judged by."""

    def __init__(self, volume_id):
        self.volume_id, self.devices, self.by_id = volume_id, [], {}
        self.owner_counter = self.owner_newest = 0
        self.keyring, self.keyslots = Keyring(Decoder(U32.pack(1) + b"\0")), b"\0"
        self.newest_checkpoint = 0

    def encoded(self):
        head = i53(self.created) + U32.pack(self.chunk_size) + bytes([self.suite, self.hash_id]) + self.owner
        lists = self.features.raw + self.keyring.raw + self.keyslots
        owner = varint(self.owner_counter) + varint(self.owner_newest)
        return head + lists + owner + varint(len(self.devices)) + b"".join(d.encoded() for d in self.devices)

    def settings(self, read):
        """The fields that genesis and state begin with."""
        self.created, self.chunk_size = read.i53(), read.u32()
        need(4_096 <= self.chunk_size <= MAX_CHUNK, "chunk size out of range")
        self.suite, self.hash_id = read.one_of(AEADS, "suite"), read.one_of((1,), "hash")
        self.owner = read.raw(32)
        self.features = Features(read)

    @classmethod
    def decode(cls, body, volume_id):
        read, state = Decoder(body), cls(volume_id)
        state.settings(read)
        state.keyring, state.keyslots = Keyring(read), decode_keyslots(read)
        state.owner_counter, state.owner_newest = read.varint(), read.varint()
        for index in range(1, read.varint() + 1):
            device = Enrolment(read)
            need(device.index == index and device.id not in state.by_id, "the roster's order")
            device.enrolled, device.status = read.i53(), read.one_of((ACTIVE, REMOVED, LAPSED), "status")
            device.counter, device.newest = read.varint(), read.varint()
            device.next_ino, device.serial = read.varint(), read.varint()
            state.devices.append(device)
            state.by_id[device.id] = device
        read.end()
        return state

    def device(self, index):
        need(1 <= index <= len(self.devices), "no such device")
        return self.devices[index - 1]


# ---------------------------------------------------------------------------------------------------------------------
# The chain


def judge(state, commit, sequence, previous):
    """Applies a commit that opened to the state of the log; FormatError when it is void, and the state is as before."""
    need(commit.sequence == sequence and commit.previous == previous, "it names another place than its own")
    author = None
    if commit.author != ZEROS[:16]:
        author = state.by_id.get(commit.author) or commit.own_admission()
        need(author, "its author is not in the roster")
        need(author.status != REMOVED, "its author was removed")
    key = author.signing_key if author else state.owner
    need(commit.signed_by(key, state.volume_id), "a wrong signature")
    role = author.role if author else OWNER
    for kind, body in commit.records:
        need(role in MAY[kind] or (kind == ADMISSION and body is author), f"its author may not write record {kind}")
    if role == READER:
        need(not (commit.mutations or commit.packs or commit.checkpoint), "its author is a reader")
    counter, newest = (author.counter, author.newest) if author else (state.owner_counter, state.owner_newest)
    need(commit.counter == counter + 1 and commit.previous_own == newest, "not its author's next commit")
    if author:
        need(commit.next_ino >= author.next_ino and commit.serial >= author.serial, "its author's numbers go back")
    else:
        need(commit.next_ino == commit.serial == 0, "the owner has no inode numbers and no journal")
    need(commit.last_checkpoint == state.newest_checkpoint, "it names another checkpoint as the newest")
    judge_records(state, commit, author)
    need(len(commit.of(STATE)) == (1 if commit.checkpoint else 0), "a checkpoint has a state, and nothing else has")
    if commit.checkpoint:
        need(commit.covers < sequence, "a checkpoint that covers itself")
        need(commit.of(STATE)[0] == state.encoded(), "a checkpoint with another state")
    take_in(state, commit, author)


def judge_records(state, commit, author):
    """The rules of single records, each by the log before the commit and the records before it."""
    roster, generation = list(state.devices), state.keyring.generation
    removed = {device.index for device in roster if device.status == REMOVED}
    keeps_work, serials = b"work" in state.features.lists[2], {}
    for kind, body in commit.records:
        if kind == ADMISSION:
            need(body.index == len(roster) + 1, "an admission with another index")
            need(any(body.id) and all(body.id != device.id for device in roster), "an admission of a known device")
            need(body.admitted_by <= len(roster), "admitted by no known device")
            admin = roster[body.admitted_by - 1] if body.admitted_by else None
            need(not admin or admin.role == ADMIN and admin.index not in removed, "admitted by one who may not")
            need(body.certified(admin.signing_key if admin else state.owner, state.volume_id), "a wrong certificate")
            roster.append(body)
        elif kind in (REMOVAL, LAPSE):
            need(1 <= body <= len(roster), "no such device")
            removed |= {body} if kind == REMOVAL else set()
        elif kind == KEYRING:
            need(body.generation == generation + 1, "a keyring of another generation than the next")
            generation += 1
        elif kind == FEATURES:
            keeps_work = b"work" in body.lists[2]
        elif kind == WORK:
            need(keeps_work, "work in a volume whose commits hold none")
            judge_work(body, author, roster, removed, serials)


def judge_work(groups, author, roster, removed, serials):
    """`serials`: those that records before this one have raised, by device."""
    for group in groups:
        need(1 <= group.device <= len(roster) and group.device not in removed, "work of nobody")
        device = roster[group.device - 1]
        need(group.carried == (device is not author), "work that is neither its author's nor carried")
        need(group.first > serials.get(group.device, device.serial), "work that is repeated")
        serials[group.device] = group.last


def take_in(state, commit, author):
    """What a commit that counts changes in the state of the log."""
    for admission in commit.of(ADMISSION):
        admission.enrolled = commit.wall_time
        state.devices.append(admission)
        state.by_id[admission.id] = admission
    if author:
        author.counter, author.newest = commit.counter, commit.sequence
        author.next_ino, author.serial = commit.next_ino, commit.serial
        author.status = ACTIVE
    else:
        state.owner_counter, state.owner_newest = commit.counter, commit.sequence
    for kind, body in commit.records:
        if kind == REMOVAL:
            state.device(body).status = REMOVED
        elif kind == LAPSE and state.device(body).status == ACTIVE:
            state.device(body).status = LAPSED
        elif kind == KEYRING:
            state.keyring = body
        elif kind == KEYSLOTS:
            state.keyslots = body
        elif kind == WORK:
            for group in body:
                if group.carried:
                    state.device(group.device).serial = group.last
        elif kind == FEATURES:
            state.features = body
            body.refuse_unknown()
    if commit.checkpoint:
        state.newest_checkpoint = commit.sequence


# ---------------------------------------------------------------------------------------------------------------------
# Genesis


def open_genesis(sealed, volume_id, owner, epoch_key):
    """Returns the state of the log after the genesis."""
    need(H(sealed) == volume_id, "the genesis is another volume's")
    payload = open_framed(sealed, subkey(epoch_key, "genesis"), "genesis", 1, ZEROS, b"")
    read, state = Decoder(payload), LogState(volume_id)
    need(read.u8() == 1, "unknown version of the genesis")
    read.raw(16)
    state.settings(read)
    message, signature = payload[:read.at], read.raw(64)
    read.end()
    need(state.owner == owner, "the genesis has another owner than the keyslot")
    need(signed(owner, b"sealdrive v1 genesis" + message, signature), "the genesis has a wrong signature")
    return state


# ---------------------------------------------------------------------------------------------------------------------
# The newest state


class Volume:
    """A volume that was opened: its keys, its log, and the map from tree keys to values of its newest state."""

    def __init__(self, store, slot, generation, since, root_secret):
        self.store, self.volume_id, self.owner = store, slot.volume_id, slot.owner
        self.generation, self.since, self.root_secret = generation, since, root_secret
        self.epochs = {generation: subkey(root_secret, "epoch")}
        self.problems, self.void, self.counted, self.hashes = [], {}, [], {}
        self.state, self.pages = {}, 0
        self.names = self._log_names()
        self.head = max(self.names, default=0)

    def problem(self, what, path=None):
        self.problems.append({"what": what, "path": path})
        warn((path and printable(path) + ": " or "") + what)

    def _log_names(self):
        """Keys: the names under log/ by sequence; those with another PRF are a stranger's."""
        names = {}
        for name in self.store.names("log"):
            sequence, prf = int(name[:16], 16), name[17:]
            if sequence < LIMIT and (sequence < self.since or log_prf(self.root_secret, sequence) == prf):
                names.setdefault(sequence, []).append(name)
        return names

    def open_commit(self, sequence, previous):
        """The payload of the commit at its place, and H of the object."""
        reason = "is missing"
        for name in self.names.get(sequence, ()):
            try:
                sealed = self.store.get(f"log/{name}", MAX_COMMIT)
                for epoch, key in self.epochs.items():
                    try:
                        place = U64.pack(sequence) + previous
                        payload = open_framed(sealed, subkey(key, "commit"), "commit", epoch, self.volume_id, place)
                        return payload, H(sealed)
                    except FormatError as error:
                        reason = f"is not authentic: {error}"
            except FormatError as error:
                reason = f"cannot be read: {error}"
        hint = "" if self.from_checkpoint else "; see --from-checkpoint"
        raise Fatal(EXIT_UNTRUSTED, f"commit {sequence} of 0 to {self.head} {reason}{hint}")

    def _learn_older_epochs(self):
        """Key hierarchy: the commit that began the generation holds the keys of the older epochs."""
        if self.since:
            sealed = [self.store.get(f"log/{name}", MAX_COMMIT) for name in self.names.get(self.since - 1, ())]
            for before in sealed or [b""]:
                try:
                    commit = Commit(self.open_commit(self.since, H(before))[0])
                except Fatal:
                    continue
                for keyring in commit.of(KEYRING):
                    self.epochs.update(keyring.keys)

    def read_log(self):
        """How a volume is read, steps 2 and 3: verifies the log from the genesis on."""
        self._learn_older_epochs()
        reason = "is missing"
        for name in self.names.get(0, ()):
            try:
                sealed = self.store.get(f"log/{name}", MAX_GENESIS)
                need(1 in self.epochs, "the key of epoch 1 is not there")
                self.log = open_genesis(sealed, self.volume_id, self.owner, self.epochs[1])
                break
            except FormatError as error:
                reason = f"is not authentic: {error}"
        else:
            raise Fatal(EXIT_UNTRUSTED, f"commit 0, the genesis, {reason}")
        self.log.features.refuse_unknown()
        if not self.head:
            raise Fatal(EXIT_UNTRUSTED, "commit 1 is missing")
        self._follow(1, self.volume_id)

    def _follow(self, sequence, previous):
        for sequence in range(sequence, self.head + 1):
            self.hashes[sequence] = previous
            payload, digest = self.open_commit(sequence, previous)
            try:
                commit = Commit(payload)
                judge(self.log, commit, sequence, previous)
                self.counted.append(sequence)
                if commit.checkpoint:
                    self.newest = commit
            except FormatError as error:
                self.void[sequence] = str(error)
            previous = digest

    def read_log_from_checkpoint(self):
        """The chain, "A device without history": takes the state of the log from the newest checkpoint. What that says
        about the time before it rests on the word of its author."""
        self._learn_older_epochs()
        self.from_checkpoint = True
        claims = []
        for sequence in range(self.head, max(0, self.head - 32), -1):
            try:
                commit, _ = self._commit_by_names(sequence)
                claims.append((sequence if commit.checkpoint else commit.last_checkpoint, commit))
            except (FormatError, Fatal) as error:
                warn(f"note: {error}")
        others = sorted({claim for claim, _ in claims}, reverse=True)
        admissions = [commit.own_admission() for _, commit in claims]
        for sequence, claimant in claims + [(sequence, None) for sequence in others]:
            try:
                if sequence and self._begin_at(sequence, claimant, admissions):
                    return
            except (FormatError, Fatal) as error:
                warn(f"note: checkpoint {sequence}: {error}")
        raise Fatal(EXIT_UNTRUSTED, "there is no checkpoint to begin at")

    def _commit_by_names(self, sequence):
        """A commit, opened under H of the object before it, and H of its own object."""
        names = self.names.get(sequence - 1)
        need(names, f"commit {sequence - 1} is missing")
        self.hashes[sequence] = H(self.store.get(f"log/{names[0]}", MAX_COMMIT))
        payload, digest = self.open_commit(sequence, self.hashes[sequence])
        return Commit(payload), digest

    def _begin_at(self, sequence, claimant, admissions):
        """Whether it could begin at that checkpoint, which the claimant, if given, names and must be believed about."""
        commit, digest = self._commit_by_names(sequence)
        need(commit.checkpoint and commit.of(STATE), "it is no checkpoint")
        state = LogState.decode(commit.of(STATE)[0], self.volume_id)
        need(state.owner == self.owner, "it has another owner than the keyslot")
        state.features.refuse_unknown()
        for device in state.devices:
            admin = state.device(device.admitted_by) if device.admitted_by else None
            need(not admin or admin.role == ADMIN and admin.index < device.index, "a certificate leads nowhere")
            need(device.certified(admin.signing_key if admin else state.owner, self.volume_id), "a wrong certificate")
        if claimant:
            author = state.by_id.get(claimant.author) or self._admitted_since(state, claimant, admissions)
            if claimant.author != ZEROS[:16] and not (author and author.role != READER and author.status != REMOVED):
                return False
            if not claimant.signed_by(author.signing_key if author else state.owner, self.volume_id):
                return False
        newest = [state.owner_newest] + [device.newest for device in state.devices]
        state.newest_checkpoint = commit.last_checkpoint
        judge(state, commit, sequence, self.hashes[sequence])
        self.log, self.newest, self.counted = state, commit, self._counted_before(newest, commit.covers) + [sequence]
        self.epochs.update(state.keyring.keys)
        self._follow(sequence + 1, digest)
        return True

    def _admitted_since(self, state, claimant, admissions):
        """The enrolment of a claimant whom the checkpoint does not know, if one of the last commits has it."""
        for admission in admissions:
            if admission and admission.id == claimant.author and admission.admitted_by <= len(state.devices):
                admin = state.device(admission.admitted_by) if admission.admitted_by else None
                able = not admin or admin.role == ADMIN and admin.status != REMOVED
                if able and admission.certified(admin.signing_key if admin else state.owner, self.volume_id):
                    return admission
        return None

    def _counted_before(self, newest, covers):
        """The newest state: the commits behind `covers` that count are each author's newest, that one's previous own,
        and so on."""
        counted = set()
        for sequence in newest:
            while sequence > covers:
                need(sequence not in counted, "two authors of one commit")
                counted.add(sequence)
                before = self._commit_by_names(sequence)[0].previous_own
                need(before < sequence, "a previous own commit that is none")
                sequence = before
        return sorted(counted)

    newest, from_checkpoint = None, False

    def _apply(self, sequence):
        commit = Commit(self.open_commit(sequence, self.hashes[sequence])[0])
        apply_commit(self.state, commit)
        return commit

    def load(self):
        """How a volume is read, step 4. The mutations of the whole log make the newest state; what the newest
        checkpoint's tree says must be the same, and is compared on the way. Without the whole log the tree it is."""
        files = size = 0
        covers = self.newest.covers if self.newest else -1
        if not self.from_checkpoint:
            for sequence in [s for s in self.counted if s <= covers]:
                self._apply(sequence)
        if self.newest:
            self._read_tree()
            files, size = self.newest.total_files, self.newest.total_bytes
        for sequence in [s for s in self.counted if s > covers]:
            commit = self._apply(sequence)
            files, size = files + commit.files_delta, size + commit.bytes_delta
        self.total_files, self.total_bytes = files, size

    def _read_tree(self):
        tree = Tree(self)
        tree.load(self.newest.root)
        self.pages = tree.pages
        if self.from_checkpoint:
            self.state = tree.entries
        elif tree.complete and tree.entries != self.state:
            differ = {key for key in tree.entries.keys() | self.state.keys()
                      if tree.entries.get(key) != self.state.get(key)}
            self.problem(f"the tree of checkpoint {self.newest.sequence} is not the state after commit "
                         f"{self.newest.covers}: {len(differ)} keys differ, the first is {min(differ)!r}")


def apply_commit(state, commit):
    for key, value in commit.mutations:
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value
    for pack_id, size, epoch, index_hash in commit.packs:
        state[b"P" + pack_id] = b"\1" + varint(commit.sequence) + varint(size) + varint(epoch) + index_hash


# ---------------------------------------------------------------------------------------------------------------------
# Pack


class PackInfo:
    """The value of a `P` key."""

    def __init__(self, value):
        read = Decoder(value)
        need(read.u8() == 1, "unknown version of a P key")
        self.birth, self.size, self.epoch, self.index_hash = read.varint(), read.varint(), read.varint(), read.raw(32)
        read.end()
        need(FRAMED < self.size <= MAX_PACK, "a pack's size is out of range")


class Snapshot:
    """The value of an `S` key."""

    def __init__(self, value):
        read = Decoder(value)
        need(read.u8() == 1, "unknown version of a snapshot")
        self.kind, self.held = read.one_of(range(5), "kind of snapshot"), read.one_of((0, 1), "flag")
        self.time, self.sequence, self.checkpoint, self.hash = read.i53(), read.varint(), read.varint(), read.raw(32)
        self.root = PageReference(read.raw(56)) if read.one_of((0, 1), "flag") else None
        self.files, self.bytes, self.label = read.varint(), read.varint(), read.text()
        read.end()


def check_policy(value):
    read = Decoder(value)
    need(read.u8() == 1, "unknown version of a policy")
    for _ in ("hourly", "daily", "weekly", "monthly"):
        read.varint()
    read.end()


class Chunk:
    """What opens one chunk: from an extent, or from an index (where the content hash stands for the segments')."""

    def __init__(self, codec, plain, stored, salt, hashes=None, content=None):
        need(1 <= plain <= MAX_CHUNK, "a chunk's plain length is out of range")
        need(stored == plain if codec == 0 else 1 <= stored <= MAX_CHUNK, "a chunk's stored length is out of range")
        self.codec, self.plain, self.stored, self.salt, self.hashes = codec, plain, stored, salt, hashes
        self.content = content or content_hash(hashes)
        self.sealed = sealed_chunk_size(stored)

    def identity(self):
        return self.codec, self.plain, self.stored, self.salt, self.content


class Packs:
    """Reads items of packs, which need no index."""

    def __init__(self, volume):
        self.volume, self.files, self.chunks = volume, OrderedDict(), OrderedDict()

    def read(self, pack_id, offset, size):
        key = pack_key(pack_id)
        fd = self.files.pop(pack_id, None)
        if fd is None:
            fd = self.volume.store.open(key)[0]
            if len(self.files) >= 32:
                os.close(self.files.popitem(last=False)[1])
        self.files[pack_id] = fd
        return read_at(fd, offset, size, key)

    def info(self, pack_id):
        value = self.volume.state.get(b"P" + pack_id)
        need(value is not None, f"pack {pack_id.hex()} is not in the tree")
        return PackInfo(value)

    def key(self, epoch, purpose):
        need(epoch in self.volume.epochs, f"the key of epoch {epoch} is not there")
        return subkey(self.volume.epochs[epoch], purpose)

    def open_item(self, sealed, kind, epoch, place):
        purpose = "pack-index" if kind.startswith("pack") else kind
        return open_bare(sealed, self.key(epoch, purpose), self.volume.log.suite, kind, epoch, self.volume.volume_id,
                         place)

    def chunk(self, pack_id, offset, chunk):
        """The plain bytes of a chunk, and the ranges of them that cannot be had (zeros stand there)."""
        key = pack_id, offset, chunk.identity()
        opened = self.chunks.pop(key, None) or self._open_chunk(pack_id, offset, chunk)
        self.chunks[key] = opened
        if len(self.chunks) > 8:
            self.chunks.popitem(last=False)
        return opened

    def _open_chunk(self, pack_id, offset, chunk):
        info = self.info(pack_id)
        need(offset + chunk.sealed <= info.size, "a chunk lies behind the end of its pack")
        stored, bad = self.segments(pack_id, offset, chunk, info.epoch)
        if chunk.codec == 0:
            return stored, bad
        if bad:
            return bytes(chunk.plain), [(0, chunk.plain, bad[0][2])]
        return self.unzip(stored, chunk), []

    def unzip(self, stored, chunk):
        plain, used = unzstd(stored, chunk.plain)
        need(len(stored) == padme(used) and not any(stored[used:]), "a chunk with other padding")
        return plain

    def segments(self, pack_id, offset, chunk, epoch):
        """The seal of a chunk: the stored bytes, and (begin, end, reason) of the segments that do not open."""
        place = pack_id + struct.pack("<IBII", offset, chunk.codec, chunk.plain, chunk.stored)
        volume = self.volume
        key, suite = self.key(epoch, "chunk"), volume.log.suite
        aead = AEADS[suite](seal_okm(key, suite, "chunk", epoch, volume.volume_id, place, chunk.salt)[1][:32])
        stored, bad, hashes = bytearray(chunk.stored), [], []
        for number in range(segment_count(chunk.stored)):
            begin, end = number * SEGMENT, min((number + 1) * SEGMENT, chunk.stored)
            try:
                sealed = self.read(pack_id, offset + begin + TAG * number, end - begin + TAG)
                plain = aead.decrypt(U32.pack(number) + bytes(8), sealed, None)
                hashes.append(H(plain))
                need(chunk.hashes is None or hashes[number] == chunk.hashes[number], "a segment has another hash")
                stored[begin:end] = plain
            except (InvalidTag, FormatError) as error:
                reason = str(error) or "a segment was changed"
                bad.append((begin, end, f"{pack_key(pack_id)}, offset {offset}: {reason}"))
                hashes.append(ZEROS)
        if not bad and content_hash(hashes) != chunk.content:
            bad.append((0, chunk.stored, f"{pack_key(pack_id)}, offset {offset}: another content hash"))
        return bytes(stored), bad

    def page(self, reference, epochs):
        """A tree page's plain bytes, by its reference."""
        need(BARE + 8 <= reference.size <= MAX_PAGE + 2 * BARE, "a page's size is out of range")
        sealed = self.read(reference.pack, reference.offset, reference.size)
        need(H(sealed) == reference.hash, "a page has another hash")
        for epoch in epochs:
            try:
                payload = self.open_item(sealed, "page", epoch, reference.pack + U32.pack(reference.offset))
            except FormatError:
                continue
            return decode_page_payload(payload)
        raise FormatError("a page does not open here")

    def index(self, pack_id, info):
        """The items of a pack's index: (kind, offset, sealed length, chunk or hash)."""
        key = pack_key(pack_id)
        size = self.volume.store.open(key)
        os.close(size[0])
        need(size[1] == info.size == padme(info.size), f"{key}: has another size")
        sealed = self.read(pack_id, info.size - 96, 96)
        read = Decoder(self.open_item(sealed, "pack footer", info.epoch, pack_id + b"\xff" * 4))
        version, offset, length, count = read.u32(), read.u32(), read.u32(), read.u32()
        read.zeros(8)
        read.end()
        need(version == 2 and offset + length + 96 == info.size, f"{key}: a footer that does not fit")
        sealed = self.read(pack_id, offset, length)
        need(H(sealed) == info.index_hash, f"{key}: the index has another hash")
        payload = self.open_item(sealed, "pack index", info.epoch, pack_id + U32.pack(offset))
        return self._items(Decoder(payload), offset, count)

    def _items(self, read, index_offset, count):
        need(read.varint() == count, "footer and index have another count")
        offset, items = 0, []
        for _ in range(count):
            kind, sealed, what = read.one_of((0, 1, 2), "kind of item"), read.varint(), None
            need(sealed >= 1, "an empty item")
            if kind == 1:
                codec, plain, stored, salt = read.one_of((0, 1), "codec"), read.varint(), read.varint(), read.raw(16)
                what = Chunk(codec, plain, stored, salt, content=read.raw(32))
                need(what.sealed == sealed, "a chunk's sealed length")
                read.varint(), read.varint()
            elif kind == 2:
                what = read.raw(32)
            items.append((kind, offset, sealed, what))
            offset += sealed
            need(offset <= index_offset, "items behind the index")
        need(offset == index_offset, "a hole before the index")
        need(not any(read.rest()), "bytes behind the index")
        return items


def decode_page_payload(payload):
    read = Decoder(payload)
    codec = read.one_of((0, 1), "codec of a page")
    read.zeros(3)
    size = read.u32()
    need(1 <= size <= MAX_PAGE, "a page is too large")
    if codec == 0:
        plain = read.raw(size)
    else:
        plain, used = unzstd(payload[8:], size)
        read.raw(used)
    read.end()
    return plain


# ---------------------------------------------------------------------------------------------------------------------
# Tree page


class Tree:
    """The entries of a checkpoint's tree. A page that cannot be read is a problem; the others are read."""

    def __init__(self, volume):
        self.volume, self.packs, self.entries = volume, Packs(volume), {}
        self.pages, self.complete, self.last = 0, True, None

    def load(self, root):
        if root:
            self._load(root, None, b"", None)

    def _load(self, reference, level, low, high):
        try:
            entries = self._page(reference, level, low, high)
        except FormatError as error:
            self.complete = False
            self.volume.problem(f"tree page in {pack_key(reference.pack)} at {reference.offset}: {error}")
            return
        level, keys, values = entries
        if level == 0:
            self.entries.update(zip(keys, values))
            return
        for number, value in enumerate(values):
            self._load(PageReference(value), level - 1, keys[number],
                       keys[number + 1] if number + 1 < len(keys) else high)

    def _page(self, reference, level, low, high):
        page = self.packs.page(reference, self.volume.epochs)
        self.pages += 1
        found, keys, values = decode_page(page)
        need(level is None or found == level, "a page of another level")
        if found == 0 or keys[0] != b"" or low != b"":
            need(keys[0] >= low, "keys before their range")
        need(high is None or keys[-1] < high, "keys behind their range")
        if low == b"" and found:
            need(keys[0] == b"", "the leftmost branch does not begin with the empty key")
        return found, keys, values


def decode_page(page):
    """Returns level, keys and values."""
    read = Decoder(page)
    level = read.u8()
    need(level <= 11, "a page's level is out of range")
    read.zeros(3)
    count = read.u32()
    need(1 <= count <= len(page) // 10, "a page's count is out of range")
    offsets = struct.unpack(f"<{count}I", read.raw(4 * count))
    keys, values = [], []
    for offset in offsets:
        need(offset == read.at, "a page's entries do not lie side by side")
        key_size, value_size = struct.unpack("<HI", read.raw(6))
        keys.append(read.raw(key_size))
        values.append(read.raw(value_size))
    read.end()
    need(all(a < b for a, b in zip(keys, keys[1:])), "a page's keys out of order")
    need(level == 0 or all(len(value) == 56 for value in values), "a branch's values")
    return level, keys, values


# ---------------------------------------------------------------------------------------------------------------------
# Tree keys, Inode numbers, Inode, Directory entry, Extent

FIFO, CHARACTER, DIRECTORY, BLOCK, FILE, LINK, SOCKET = 1, 2, 4, 6, 8, 10, 12
TYPES = {FIFO: "p", CHARACTER: "c", DIRECTORY: "d", BLOCK: "b", FILE: "-", LINK: "l", SOCKET: "s"}
ROOT = 1
NAMESPACES = (b"user.", b"trusted.", b"security.")
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")


def valid_number(number):
    """Inode numbers: whether it is one of an inode or of a directory entry."""
    if number < 1 << 32:
        return number == ROOT or 16 <= number < 1 << 31
    device, counter = divmod(number - (1 << 32), 1 << 35)
    return device < 16 and counter >= 1 << 27 or 16 <= device < 8_192


def key_number(key, at):
    number = BE64.unpack_from(key, at)[0]
    need(number < LIMIT, "a number in a key is out of range")
    return number


def key_inode(key, at=1):
    number = key_number(key, at)
    need(valid_number(number), f"no inode has the number {number}")
    return number


def file_name(name):
    need(1 <= len(name) <= 255 and b"/" not in name and b"\0" not in name and name not in (b".", b".."),
         f"a name that no file can have: {printable(name)}")
    return name


def attribute_name(name):
    need(1 <= len(name) <= 255 and b"\0" not in name, "a name that no attribute can have")
    need(name.startswith(NAMESPACES) or name in ACLS, f"an attribute outside of the namespaces: {printable(name)}")
    return name


class Inode:
    def __init__(self, value):
        read = Decoder(value)
        need(read.u8() == 1, "unknown version of an inode")
        self.mode = int.from_bytes(read.raw(2), "little")
        self.type = self.mode >> 12
        need(self.type in TYPES, "an inode of no known type")
        self.nlink, self.uid, self.gid, self.rdev, self.flags = (read.varint() for _ in range(5))
        need(max(self.nlink, self.uid, self.gid, self.rdev) < 1 << 32, "an inode's number is out of range")
        self.size, self.allocated, self.generation, self.parent = (read.varint() for _ in range(4))
        need(self.parent == 0 or valid_number(self.parent), "a parent with a number that no inode has")
        self.atime, self.mtime, self.ctime, self.btime = (read.time() for _ in range(4))
        self.stamp = read.varint(), read.varint()
        self.inline = read.bytes(0, 4_095)
        read.end()
        if self.type == LINK:
            need(self.inline and len(self.inline) == self.size and b"\0" not in self.inline, "a link without a target")
        elif self.type == FILE:
            need(len(self.inline) <= min(self.size, 2_048), "inline content that is too long")
        else:
            need(not self.inline, "inline content of neither a link nor a file")


class Entry:
    """The value of a `D` key."""

    skip = False

    def __init__(self, parent, name, value):
        read, self.parent = Decoder(value), parent
        self.name, self.ino, self.type = file_name(name), read.varint(), read.one_of(TYPES, "type")
        number = read.varint()
        read.end()
        need(number != self.ino, "an entry's number that should not be written")
        self.number = number or self.ino
        need(valid_number(self.ino) and valid_number(self.number), "an entry with a number that none can have")

    def by_number(self):
        """What its `N` key holds."""
        return varint(0 if self.ino == self.number else self.ino) + bytes([self.type]) + self.name


class Extent:
    def __init__(self, value):
        read = Decoder(value)
        self.kind, self.length, self.chunks = read.one_of((1, 2), "kind of extent"), read.varint(), []
        need(self.length >= 1, "an empty extent")
        if self.kind == 1:
            self.skip, self.pack, self.offset = read.varint(), read.raw(16), read.u32()
            count = read.varint()
            need(1 <= count <= 16, "an extent's count of chunks")
            for _ in range(count):
                codec, plain = read.one_of((0, 1), "codec"), read.varint()
                stored, salt = read.varint() if codec else plain, read.raw(16)
                need(stored <= len(value) * SEGMENT, "a chunk's stored length is out of range")
                self.chunks.append(Chunk(codec, plain, stored, salt, split(read.raw(32 * segment_count(stored)), 32)))
            need(self.skip + self.length <= sum(chunk.plain for chunk in self.chunks), "an extent outlasts its chunks")
        read.end()

    def placed(self):
        """The chunks with their offsets in the pack and in the run's plaintext."""
        offset, base = self.offset, 0
        for chunk in self.chunks:
            yield offset, base, chunk
            offset, base = offset + chunk.sealed, base + chunk.plain


# ---------------------------------------------------------------------------------------------------------------------
# Files, names and content


class Files:
    """The map from tree keys to values as a tree of files. What does not decode is a problem, and is left out."""

    def __init__(self, volume):
        self.volume, self.packs = volume, Packs(volume)
        self.inodes, self.folders, self.extents, self.attributes = {}, {}, {}, {}
        self.numbers, self.orphans, self.names, self.broken = {}, {}, {}, {}
        for key in sorted(volume.state):
            try:
                self._take(key, volume.state[key])
            except FormatError as error:
                volume.problem(f"tree key {key[:1].decode()} {key[1:].hex()}: {error}")

    def _take(self, key, value):
        letter, size = key[:1], len(key)
        if letter in b"SC":
            file_name(key[1:])
            if letter == b"S":
                Snapshot(value)
            elif key == b"Csnapshots":
                check_policy(value)
            return
        need(size == 9 if letter in b"IO" else size == 17 if letter in b"NEPG" else 10 <= size <= 264, "a key's length")
        if letter == b"G":
            read = Decoder(value)
            need(read.u8() == 1 and read.u8() in (1, 2), "a pack that goes, in an unknown state")
            read.varint(), read.varint()
            read.end()
            return
        if letter == b"P":
            PackInfo(value)
            return
        ino = key_inode(key)
        if letter == b"I":
            self.inodes[ino] = Inode(value)
        elif letter == b"D":
            entry = Entry(ino, key[9:], value)
            self.folders.setdefault(ino, []).append(entry)
            self.names.setdefault(entry.ino, []).append((ino, entry))
        elif letter == b"N":
            self.numbers[ino, key_inode(key, 9)] = value
        elif letter == b"E":
            offset = key_number(key, 9)
            try:
                self.extents.setdefault(ino, []).append((offset, Extent(value)))
            except FormatError as error:
                self.broken.setdefault(ino, []).append((offset, str(error)))
        elif letter == b"X":
            need(len(value) <= MAX_XATTR, "an attribute that is too long")
            self.attributes.setdefault(ino, []).append((attribute_name(key[9:]), value))
        elif letter == b"O":
            read = Decoder(value)
            self.orphans[ino] = read.varint()
            read.end()

    def path(self, ino):
        """A path of an inode, for messages."""
        parts, seen = [], set()
        while ino != ROOT:
            if ino in seen or ino not in self.names:
                return b"/".join([b"(inode %d)" % ino] + parts[::-1])
            seen.add(ino)
            ino, entry = self.names[ino][0]
            parts.append(entry.name)
        return b"/".join(parts[::-1]) or b"."

    def walk(self):
        """Every entry below the root, as (path, entry, inode): a folder before what it holds, and once more, with None
        as the entry, behind it. A folder whose entry is marked `skip` in between is not entered."""
        stack, seen = [(b"", None, iter(self.folders.get(ROOT, ())))], {ROOT}
        while stack:
            prefix, folder, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                yield prefix[:-1], None, folder
                continue
            path = prefix + entry.name
            inode = self.usable(entry, path)
            if not inode:
                continue
            if inode.type == DIRECTORY and entry.ino in seen:
                self.volume.problem("a second name of a directory", path)
                continue
            yield path, entry, inode
            if inode.type == DIRECTORY and not entry.skip:
                seen.add(entry.ino)
                stack.append((path + b"/", inode, iter(self.folders.get(entry.ino, ()))))

    def usable(self, entry, path):
        inode = self.inodes.get(entry.ino)
        if inode is None:
            self.volume.problem("its inode is missing or damaged", path)
        elif inode.type != entry.type:
            self.volume.problem("another type in the directory than in the inode", path)
        return inode

    def check(self):
        """The rules of "Files, names and content". Each broken one is a problem."""
        root = self.inodes.get(ROOT)
        if not root or root.type != DIRECTORY or root.parent != ROOT or ROOT in self.names:
            self.volume.problem("the root is not what it must be")
        self._check_names()
        subfolders = {}
        for parent, entries in self.folders.items():
            subfolders[parent] = sum(entry.type == DIRECTORY for entry in entries)
        for ino, inode in self.inodes.items():
            for rule in self._broken_rules(ino, inode, subfolders.get(ino, 0)):
                self.volume.problem(rule, self.path(ino))
        for what in (self.extents, self.attributes, self.orphans, self.folders, self.broken):
            for ino in what.keys() - self.inodes.keys():
                self.volume.problem(f"keys of inode {ino}, which is not there")
        for ino, broken in self.broken.items():
            for offset, reason in broken:
                self.volume.problem(f"the extent at {offset}: {reason}", self.path(ino))
        files, size = len(self.inodes), sum(inode.allocated for inode in self.inodes.values())
        if (files, size) != (self.volume.total_files, self.volume.total_bytes):
            self.volume.problem(f"totals: {files} files and {size} bytes are there, the log says "
                                f"{self.volume.total_files} and {self.volume.total_bytes}")

    def _check_names(self):
        numbers, left = set(), dict(self.numbers)
        for parent, entries in self.folders.items():
            for entry in entries:
                if left.pop((parent, entry.number), None) != entry.by_number() or entry.number in numbers:
                    self.volume.problem("its entry by number is missing, another or not alone",
                                        self.path(parent) + b"/" + entry.name)
                numbers.add(entry.number)
            if parent in self.inodes and self.inodes[parent].type != DIRECTORY:
                self.volume.problem("entries of what is no directory", self.path(parent))
        for parent, number in left:
            self.volume.problem(f"entry {number} by number has no name", self.path(parent))

    def _broken_rules(self, ino, inode, subfolders):
        names = self.names.get(ino, [])
        if inode.type == DIRECTORY:
            if ino != ROOT and inode.nlink and (len(names) != 1 or names[0][0] != inode.parent):
                yield "a directory without exactly one name in its parent"
            if inode.nlink not in (0, 2 + subfolders):
                yield f"nlink is {inode.nlink} and should be {2 + subfolders}"
            if not self._leads_to_root(ino) and inode.nlink:
                yield "its parents do not lead to the root"
            if inode.nlink == 0 and self.folders.get(ino):
                yield "a removed directory that is not empty"
        elif inode.nlink != len(names):
            yield f"nlink is {inode.nlink}, and it has {len(names)} names"
        if (inode.nlink == 0) != (ino in self.orphans):
            yield "nlink and its orphan key do not agree"
        if inode.type not in (FILE, DIRECTORY, LINK) and inode.size or inode.type == DIRECTORY and inode.size:
            yield "a size of what has none"
        if sum(len(name) + 1 for name, _ in self.attributes.get(ino, ())) > 65_536:
            yield "too many attributes"
        yield from self._broken_extents(ino, inode)

    def _leads_to_root(self, ino):
        seen = set()
        while ino != ROOT and ino not in seen and ino in self.inodes:
            seen.add(ino)
            ino = self.inodes[ino].parent
        return ino == ROOT

    def _broken_extents(self, ino, inode):
        extents, end = self.extents.get(ino, []), 0
        if extents and (inode.type != FILE or inode.inline):
            yield "extents of what has none"
        for offset, extent in extents:
            if offset < end:
                yield f"the extent at {offset} overlaps the one before it"
            end = offset + extent.length
            if end > (inode.size if extent.kind == 1 else LIMIT - 1):
                yield f"the extent at {offset} ends too late"
        allocated = sum(extent.length for _, extent in extents) + len(inode.inline)
        if inode.allocated != allocated and ino not in self.broken:
            yield f"allocated is {inode.allocated} and should be {allocated}"

    # Content

    def content(self, ino, inode):
        """The content of a regular file as (offset, bytes, None), and (offset, None, reason) where it cannot be had.
        What lies between, up to `size`, is zeros."""
        if inode.inline:
            yield 0, inode.inline, None
        for offset, reason in self.broken.get(ino, ()):
            yield offset, None, f"an extent does not decode: {reason}"
        end = 0
        for offset, extent in self.extents.get(ino, ()):
            if offset < end or extent.kind == 1 and offset + extent.length > inode.size:
                yield offset, None, "an extent that overlaps another, or the end"
            end = offset + extent.length
            if extent.kind == 1:
                yield from self._run(offset, extent, inode.size)

    def _run(self, offset, extent, size):
        for at, base, chunk in extent.placed():
            begin, end = max(extent.skip, base), min(extent.skip + extent.length, base + chunk.plain)
            shift = offset - extent.skip
            end = min(end, size - shift)
            if begin >= end:
                continue
            try:
                plain, bad = self.packs.chunk(extent.pack, at, chunk)
            except FormatError as error:
                yield begin + shift, None, f"{pack_key(extent.pack)}, offset {at}: {error}"
                continue
            for bad_begin, bad_end, reason in bad + [(chunk.plain, chunk.plain, None)]:
                stop = min(base + bad_begin, end)
                if begin < stop:
                    yield begin + shift, plain[begin - base:stop - base], None
                if reason and max(begin, base + bad_begin) < min(end, base + bad_end):
                    yield max(begin, base + bad_begin) + shift, None, reason
                begin = max(begin, base + bad_end)


# ---------------------------------------------------------------------------------------------------------------------
# extract


class Extraction:
    """Writes the tree of files into a new or empty directory. Everything is made beneath a descriptor of its folder,
    exclusively and without following links; one folder is open at a time, however deep the tree is."""

    FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def __init__(self, volume, files, destination):
        self.volume, self.files, self.root_user = volume, files, os.geteuid() == 0
        self.linked, self.notes, self.count = {}, {}, 0
        try:
            os.makedirs(destination, 0o700, exist_ok=True)
            self.top = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if os.listdir(self.top):
                raise Fatal(EXIT_USAGE, "the destination is not empty")
        except OSError as error:
            raise Fatal(EXIT_USAGE, f"the destination: {error.strerror}") from None
        os.umask(0)

    def run(self):
        folder = os.open(".", self.FOLDER, dir_fd=self.top)
        above = []
        for path, entry, inode in self.files.walk():
            if entry is None:
                folder = self._leave(folder, above, inode, path)
                continue
            try:
                made = self._make(folder, path, entry, inode)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
                    raise Fatal(EXIT_DAMAGE, f"the destination: {error.strerror}") from None
                self.volume.problem(f"cannot be made here: {error.strerror}", path)
                made, entry.skip = None, True
            if made is not None:
                above.append((identity(folder), entry.ino))
                os.close(folder)
                folder = made
        for note, number in sorted(self.notes.items()):
            warn(f"note: {note} ({number})")
        return self.count

    def _leave(self, folder, above, inode, path):
        """Gives a folder that is complete its attributes, and goes back to the one above it."""
        parent, ino = None, ROOT
        if above:
            known, ino = above.pop()
            parent = os.open("..", self.FOLDER, dir_fd=folder)
            if identity(parent) != known:
                raise Fatal(EXIT_DAMAGE, "somebody moves folders of the destination")
        inode = inode or self.files.inodes.get(ROOT)
        if inode:
            self._attributes(folder, ino, inode)
        os.close(folder)
        return parent

    def _note(self, note):
        self.notes[note] = self.notes.get(note, 0) + 1

    def _make(self, folder, path, entry, inode):
        """Makes one entry; of a directory, returns its descriptor."""
        self.count += 1
        name = entry.name
        if inode.type == DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=folder)
            return os.open(name, self.FOLDER, dir_fd=folder)
        if entry.ino in self.linked and self._link(folder, entry):
            return None
        if inode.type == FILE:
            name = self._file(folder, path, entry, inode)
        elif inode.type == LINK:
            os.symlink(inode.inline, name, dir_fd=folder)
        elif inode.type == FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
        elif self.root_user:
            os.mknod(name, inode.mode & 0o170000 | 0o600, device_number(inode.rdev), dir_fd=folder)
        else:
            self.count -= 1
            self._note("devices and sockets are left out unless root extracts them")
            return None
        if inode.type != FILE:
            self._attributes_by_name(folder, name, entry.ino, inode)
        if len(self.files.names[entry.ino]) > 1:
            self.linked.setdefault(entry.ino, (path[:len(path) - len(entry.name)] + name, name != entry.name))
        return None

    def _link(self, folder, entry):
        """Another name of what was made before. Its folder is of this program's making, and so no link leads away."""
        made, damaged = self.linked[entry.ino]
        name = self._damaged_name(folder, entry) if damaged else entry.name
        try:
            os.link(made, name, src_dir_fd=self.top, dst_dir_fd=folder, follow_symlinks=False)
            return True
        except OSError:
            self._note("hard links that the destination does not take are copies")
            return False

    def _file(self, folder, path, entry, inode):
        """Writes a regular file, and returns the name that it got."""
        name, damaged = entry.name, False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            os.ftruncate(fd, inode.size)
            for offset, data, reason in self.files.content(entry.ino, inode):
                if reason:
                    damaged = True
                    self.volume.problem(f"from byte {offset} on: {reason}", path)
                while data:
                    written = os.pwrite(fd, data, offset)
                    data, offset = data[written:], offset + written
            self._attributes(fd, entry.ino, inode)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
        finally:
            os.close(fd)
        if damaged:
            name = self._damaged_name(folder, entry)
            os.rename(entry.name, name, src_dir_fd=folder, dst_dir_fd=folder)
        return name

    def _damaged_name(self, folder, entry):
        """The name with `.damaged` appended, shortened or numbered where it must be: not one that another file has, or
        will have."""
        taken = {sibling.name for sibling in self.files.folders[entry.parent]}
        for number in range(1_000):
            suffix = (b".%d" % number if number else b"") + b".damaged"
            name = entry.name[:255 - len(suffix)] + suffix
            if name not in taken and not exists(folder, name):
                return name
        raise OSError(errno.EEXIST, "too many names like it")

    def _attributes(self, fd, ino, inode):
        """Owner, mode, extended attributes and times of an open file or folder."""
        if self.root_user:
            os.chown(fd, inode.uid, inode.gid)
        os.chmod(fd, self._mode(inode))
        self._extended(fd, ino)
        self._times(inode, fd)

    def _attributes_by_name(self, folder, name, ino, inode):
        if self.root_user:
            os.chown(name, inode.uid, inode.gid, dir_fd=folder, follow_symlinks=False)
        if inode.type != LINK:
            os.chmod(name, self._mode(inode), dir_fd=folder)
        self._extended(b"/proc/self/fd/%d/%s" % (folder, name), ino, follow_symlinks=False)
        self._times(inode, name, dir_fd=folder, follow_symlinks=False)

    def _mode(self, inode):
        mode = inode.mode & 0o7777
        if self.root_user or not mode & 0o6000 or inode.type == DIRECTORY:
            return mode
        self._note("set-id bits are left out unless root extracts them")
        return mode & 0o1777

    def _extended(self, target, ino, **how):
        for name, value in self.files.attributes.get(ino, ()):
            try:
                os.setxattr(target, name, value, **how)
            except OSError as error:
                space = name.split(b".")[0].decode()
                self._note(f"extended attributes that the destination does not take: {space}, {error.strerror}")

    def _times(self, inode, target, **how):
        try:
            times = (seconds * 10**9 + nanoseconds for seconds, nanoseconds in (inode.atime, inode.mtime))
            os.utime(target, ns=tuple(times), **how)
        except (OSError, OverflowError):
            self._note("times that the destination does not take")


def identity(fd):
    info = os.fstat(fd)
    return info.st_dev, info.st_ino


def exists(folder, name):
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False


def device_number(rdev):
    return os.makedev(rdev >> 8 & 0xFFF, rdev & 0xFF | rdev >> 12 & 0xFFF00)


# ---------------------------------------------------------------------------------------------------------------------
# list


def describe(path, entry, inode):
    known = {"path": os.fsdecode(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")}
    if known["path"].encode() != path:
        known["pathBase64"] = base64.b64encode(path).decode()
    known.update(type={FIFO: "fifo", CHARACTER: "character device", DIRECTORY: "directory", BLOCK: "block device",
                       FILE: "file", LINK: "link", SOCKET: "socket"}[inode.type],
                 inode=entry.ino, size=inode.size, mode=inode.mode & 0o7777, links=inode.nlink,
                 mtime=inode.mtime[0], mtimeNanoseconds=inode.mtime[1])
    return known


def date(seconds):
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"@{seconds}"


def list_files(volume, files, as_json):
    listed = []
    for path, entry, inode in files.walk():
        if entry is None:
            continue
        if as_json:
            listed.append(describe(path, entry, inode))
        else:
            print(f"{TYPES[inode.type]} {inode.size:>12} {date(inode.mtime[0])}  {printable(path)}")
    return {"entries": listed}


# ---------------------------------------------------------------------------------------------------------------------
# verify


def verify(volume, files):
    """Every rule of the tree, every pack by its index, and every chunk of every file by its extent."""
    files.check()
    wanted = {}
    for ino, extents in files.extents.items():
        for _, extent in extents:
            if extent.kind == 1:
                for offset, _, chunk in extent.placed():
                    wanted.setdefault(extent.pack, {}).setdefault(offset, []).append((chunk, ino))
    packs = sorted(key[1:] for key in volume.state if key[:1] == b"P" and len(key) == 17)
    for pack_id in wanted.keys() - set(packs):
        packs.append(pack_id)
    chunks = 0
    for pack_id in packs:
        good = verify_pack(volume, files.packs, pack_id)
        for offset, uses in wanted.get(pack_id, {}).items():
            for chunk, ino in uses:
                chunks += 1
                reason = verify_use(files.packs, pack_id, offset, chunk, good)
                if reason:
                    volume.problem(reason, files.path(ino))
    return {"files": len(files.inodes), "bytes": volume.total_bytes, "packs": len(packs), "chunks": chunks,
            "pages": volume.pages}


def verify_pack(volume, packs, pack_id):
    """Opens all items of a pack; returns the chunks that are sound, by offset, or None without an index."""
    good = {}
    try:
        info = packs.info(pack_id)
        items = packs.index(pack_id, info)
    except FormatError as error:
        volume.problem(f"pack {pack_id.hex()}: {error}")
        return None
    for kind, offset, sealed, what in items:
        try:
            if kind == 1:
                stored, bad = packs.segments(pack_id, offset, what, info.epoch)
                need(not bad, bad and bad[0][2])
                if what.codec:
                    packs.unzip(stored, what)
                good[offset] = what
            elif kind == 2:
                reference = PageReference(pack_id + struct.pack("<II", offset, sealed) + what)
                decode_page(packs.page(reference, [info.epoch]))
        except FormatError as error:
            volume.problem(f"pack {pack_id.hex()}, item at {offset}: {error}")
    return good


def verify_use(packs, pack_id, offset, chunk, good):
    """Why the chunk that an extent means cannot be had, or None. One that the index has alike was opened already."""
    item = good and good.get(offset)
    if item and item.identity() == chunk.identity():
        return None
    try:
        bad = packs.chunk(pack_id, offset, chunk)[1]
    except FormatError as error:
        return str(error)
    if bad:
        return bad[0][2]
    return None if good is None else f"{pack_key(pack_id)}, offset {offset}: the pack's index has it otherwise"


# ---------------------------------------------------------------------------------------------------------------------
# The command line


def printable(raw):
    """A name as one harmless line, as doc/cli.md has it ("Names in messages")."""
    out = []
    for char in raw.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char == "\\":
            out.append("\\\\")
        elif char.isprintable():
            out.append(char)
        else:
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(
                char, f"\\x{code:02x}" if code < 128 else f"\\u{{{code:x}}}"))
    return "".join(out)


def warn(message):
    print(f"sealdrive_reader: {message}", file=sys.stderr)


def read_secret(options):
    if options.key_file:
        try:
            with open(options.key_file, "rb") as file:
                data = file.read(MIB + 1)
        except OSError as error:
            raise Fatal(EXIT_USAGE, f"the key file: {error.strerror}") from None
        if not 32 <= len(data) <= MIB:
            raise Fatal(EXIT_USAGE, "a key file has 32 bytes to 1 MiB")
        return Secret(3, data)
    if sys.stdin.isatty():
        import getpass
        line = getpass.getpass("Recovery words: " if options.words else "Passphrase: ")
    else:
        raw = sys.stdin.buffer.readline(65_536)
        try:
            line = raw.decode("utf-8").rstrip("\n")
        except UnicodeDecodeError:
            raise Fatal(EXIT_USAGE, "the secret is not UTF-8") from None
    if options.words:
        return Secret(2, recovery_bytes(line))
    return Secret(1, unicodedata.normalize("NFKC", line).encode())


def parse_arguments():
    parser = argparse.ArgumentParser(description="Reads Sealdrive volumes without Sealdrive.", allow_abbrev=False)
    parser.add_argument("--self-test", action="store_true", help="check the cryptography against known answers")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in (("extract", "verify the log and write the tree of files into DEST"),
                       ("list", "verify the log and list all paths"),
                       ("verify", "verify everything, including all chunks and pack indexes")):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("store", metavar="STORE", help="the folder of the store")
        if name == "extract":
            command.add_argument("destination", metavar="DEST", help="a folder that is new or empty")
        else:
            command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--from-checkpoint", action="store_true",
                             help="begin at the newest checkpoint, for a log that lost commits before it")
        command.add_argument("--key-file", metavar="FILE", help="the secret is this key file")
        command.add_argument("--words", action="store_true", help="the secret is 24 recovery words on standard input")
        command.add_argument("--slot-memory", type=int, default=256, metavar="MIB",
                             help="also try keyslots that take up to this much memory (default: 256)")
    options = parser.parse_args()
    if not options.self_test and not options.command:
        parser.error("a command is missing")
    return options


def run(options):
    secret = read_secret(options)
    store = Store(options.store)
    volume = Volume(store, *open_keyslot(store, secret, options.slot_memory))
    if options.from_checkpoint:
        volume.read_log_from_checkpoint()
    else:
        volume.read_log()
    volume.load()
    files = Files(volume)
    result = {"volume": volume.volume_id.hex(), "head": volume.head, "void": volume.void}
    as_json = getattr(options, "json", False)
    if options.command == "extract":
        result["entries"] = Extraction(volume, files, options.destination).run()
    elif options.command == "list":
        result.update(list_files(volume, files, as_json))
    else:
        result.update(verify(volume, files))
    result["problems"] = [describe_problem(problem) for problem in volume.problems]
    if as_json:
        print(json.dumps(result))
    else:
        summary(options, volume, result)
    return EXIT_DAMAGE if volume.problems else 0


def describe_problem(problem):
    path = problem["path"]
    if path is None:
        return {"what": problem["what"]}
    return {"what": problem["what"], "path": path.decode("utf-8", "replace"),
            "pathBase64": base64.b64encode(path).decode()}


def summary(options, volume, result):
    for sequence, reason in volume.void.items():
        warn(f"note: commit {sequence} is void and was skipped: {reason}")
    if options.command == "verify":
        print(", ".join(f"{result[what]} {what}" for what in ("files", "bytes", "packs", "chunks", "pages")))
    if options.command != "list":
        verdict = f"{len(volume.problems)} problems" if volume.problems else "all is well"
        print(f"volume {volume.volume_id.hex()[:16]}, commits 0 to {volume.head}: {verdict}")


def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        options = parse_arguments()
        return self_test() if options.self_test else run(options)
    except Fatal as error:
        warn(str(error))
        return error.code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_DAMAGE
    except (MemoryError, RecursionError):
        warn("not enough memory")
        return EXIT_DAMAGE
    except FormatError as error:
        warn(str(error))
        return EXIT_UNTRUSTED
    except OSError as error:
        warn(f"{error.strerror}")
        return EXIT_DAMAGE


if __name__ == "__main__":
    sys.exit(main())
