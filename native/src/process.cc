// Small system calls that Node.js does not offer. All of them return at once; loop thread.
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "job.h"
#include "parts.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace sealdrive {

namespace {

napi_value FirstArgument(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  return argument;
}

// setDumpable(on): whether this process may leave a core dump or be traced by its own user. Off also sets RLIMIT_CORE
// to 0.
napi_value SetDumpable(napi_env env, napi_callback_info info) {
  bool on = false;
  napi_get_value_bool(env, FirstArgument(env, info), &on);
  if (!on) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0) return ThrowError(env, {errno, "setrlimit", ""});
  }
  if (prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0) != 0) return ThrowError(env, {errno, "prctl", ""});
  return nullptr;
}

// setIoFlusher(): memory that this thread allocates is not freed by writing back to itself. False without
// CAP_SYS_RESOURCE.
napi_value SetIoFlusher(napi_env env, napi_callback_info) { return MakeBool(env, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0); }

// notifySystemd(message): one datagram to $NOTIFY_SOCKET (sd_notify(3)). False when there is none.
napi_value NotifySystemd(napi_env env, napi_callback_info info) {
  const std::string message = StringOf(env, FirstArgument(env, info));
  const char* path = getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return MakeBool(env, false);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t length = strlen(path);
  if (length >= sizeof(address.sun_path)) return ThrowError(env, {ENAMETOOLONG, "notify", "NOTIFY_SOCKET is too long"});
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ThrowError(env, {errno, "notify", ""});
  const ssize_t sent = sendto(fd, message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const struct sockaddr*>(&address),
                              static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + length));
  const int error = errno;
  close(fd);
  if (sent < 0) return ThrowError(env, {error, "notify", ""});
  return MakeBool(env, true);
}

// lockExclusive(fd): flock(2) without waiting. False when another open file description holds it.
napi_value LockExclusive(napi_env env, napi_callback_info info) {
  const int fd = static_cast<int>(NumberOf(env, FirstArgument(env, info)));
  int result;
  do result = flock(fd, LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EWOULDBLOCK) return ThrowError(env, {errno, "flock", ""});
  return MakeBool(env, result == 0);
}

// isLocked(fd): whether another open file description holds flock(2) on the file exclusively. It takes no lock that
// would hinder others: two may ask at once.
napi_value IsLocked(napi_env env, napi_callback_info info) {
  const int fd = static_cast<int>(NumberOf(env, FirstArgument(env, info)));
  int result;
  do result = flock(fd, LOCK_SH | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EWOULDBLOCK) return ThrowError(env, {errno, "flock", ""});
  if (result == 0) flock(fd, LOCK_UN);
  return MakeBool(env, result != 0);
}

// peerCredentials(fd): who connected to a Unix socket, at the time of connect(2).
napi_value PeerCredentials(napi_env env, napi_callback_info info) {
  const int fd = static_cast<int>(NumberOf(env, FirstArgument(env, info)));
  struct ucred peer = {};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return ThrowError(env, {errno, "getsockopt", ""});
  napi_value result;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "pid", MakeNumber(env, peer.pid));
  napi_set_named_property(env, result, "uid", MakeNumber(env, peer.uid));
  napi_set_named_property(env, result, "gid", MakeNumber(env, peer.gid));
  return result;
}

// The time that the kernel gives a change of a file now. Since Linux 6.13 it is the coarse clock, but never less than a
// fine-grained time that some file system has used, and no clock tells that: a file has to be changed and looked at.
// A pipe that nobody else knows costs half a microsecond.
struct timespec FileTimeNow() {
  static const int fd = [] {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    close(ends[1]);
    return ends[0];
  }();
  struct stat status;
  if (fd >= 0 && fchmod(fd, 0600) == 0 && fstat(fd, &status) == 0) return status.st_ctim;
  struct timespec now = {};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now;
}

// fileTime(target): the kernel's clock for file times, as seconds since 1970 and nanoseconds in a Float64Array of
// two.
napi_value FileTime(napi_env env, napi_callback_info info) {
  napi_value target;
  size_t count = 1;
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &count, &target, nullptr, nullptr);
  if (count < 1 || napi_get_typedarray_info(env, target, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < 2) {
    napi_throw_type_error(env, nullptr, "fileTime needs a Float64Array of two");
    return nullptr;
  }
  const struct timespec now = FileTimeNow();
  static_cast<double*>(data)[0] = static_cast<double>(now.tv_sec);
  static_cast<double*>(data)[1] = static_cast<double>(now.tv_nsec);
  return nullptr;
}

// readNow(fd, target, position) -> how many bytes were read, -1 when that would wait for the disk, when it
// failed, or when the filesystem cannot say.
napi_value ReadNow(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  if (count < 3 || napi_get_typedarray_info(env, arguments[1], &type, &length, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) {
    napi_throw_type_error(env, nullptr, "readNow needs a descriptor, a Uint8Array and a position");
    return nullptr;
  }
  const struct iovec piece = {data, length};
  return MakeNumber(env, static_cast<double>(preadv2(static_cast<int>(NumberOf(env, arguments[0])), &piece, 1, NumberOf(env, arguments[2]), RWF_NOWAIT)));
}

}  // namespace

void ExportProcess(napi_env env, napi_value exports) {
  Export(env, exports, "setDumpable", SetDumpable);
  Export(env, exports, "setIoFlusher", SetIoFlusher);
  Export(env, exports, "notifySystemd", NotifySystemd);
  Export(env, exports, "lockExclusive", LockExclusive);
  Export(env, exports, "isLocked", IsLocked);
  Export(env, exports, "peerCredentials", PeerCredentials);
  Export(env, exports, "fileTime", FileTime);
  Export(env, exports, "readNow", ReadNow);
}

}  // namespace sealdrive
