// Mounting and unmounting: mount(2) where allowed, else the setuid program fusermount3. Everything here runs on pool
// threads.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "job.h"
#include "parts.h"

extern char** environ;

namespace sealdrive {

namespace {

constexpr const char* kDevice = "/dev/fuse";
constexpr const char* kHelper = "fusermount3";
// The helper only makes a system call; if it takes longer, it hangs on something that will not come back.
constexpr int kHelperDeadlineMs = 20'000;
constexpr size_t kHelperOutputMax = 4096;

struct MountRequest {
  std::string mountPoint;
  std::string source;
  std::string subtype;
  bool readOnly;
  bool allowOther;
  bool defaultPermissions;
  bool suid;
  bool dev;
  bool noatime;
  bool strictatime;
  bool nodiratime;
  // Do not try mount(2), even as root.
  bool viaHelper;
};

int64_t NowMs() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1'000'000;
}

// fusermount3 splits its options at commas.
std::string EscapeOption(const std::string& value) {
  std::string escaped;
  for (const char byte : value) {
    if (byte == ',' || byte == '\\') escaped += '\\';
    escaped += byte;
  }
  return escaped;
}

// Runs the helper with its standard error caught and, when `comm` is not -1, that socket as descriptor 3.
// True when it exited with 0; otherwise the failure is filled in.
bool RunHelper(const std::vector<std::string>& arguments, int comm, Failure* failure) {
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) {
    *failure = {errno, "helper", ""};
    return false;
  }
  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(kHelper));
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);

  std::string commVariable = "_FUSE_COMMFD=3";
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; variable++) {
    if (strncmp(*variable, "_FUSE_COMMFD=", 13) != 0) variables.push_back(*variable);
  }
  if (comm >= 0) variables.push_back(commVariable.data());
  variables.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output[1], 2);
  if (comm >= 0) posix_spawn_file_actions_adddup2(&actions, comm, 3);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t child = -1;
  const int spawned = posix_spawnp(&child, kHelper, &actions, &attributes, argv.data(), variables.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  close(output[1]);
  if (spawned != 0) {
    close(output[0]);
    *failure = {spawned, "helper-missing", std::string("cannot run ") + kHelper + ": " + strerror(spawned)};
    return false;
  }

  std::string said;
  const int64_t deadline = NowMs() + kHelperDeadlineMs;
  bool late = false;
  for (;;) {
    const int64_t left = deadline - NowMs();
    struct pollfd wait = {output[0], POLLIN, 0};
    const int ready = left > 0 ? poll(&wait, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      kill(child, SIGKILL);
      break;
    }
    char buffer[512];
    const ssize_t count = read(output[0], buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (said.size() < kHelperOutputMax) said.append(buffer, static_cast<size_t>(count));
  }
  close(output[0]);
  if (late) {
    // It may sit in an uninterruptible call: reap it if it is dead, never wait for it.
    waitpid(child, nullptr, WNOHANG);
    *failure = {ETIMEDOUT, "helper", std::string(kHelper) + " did not answer"};
    return false;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  while (!said.empty() && (said.back() == '\n' || said.back() == ' ')) said.pop_back();
  int error = EIO;
  // The helper has no exit codes of its own: only the words of strerror(3) distinguish its failures.
  if (said.find("busy") != std::string::npos) error = EBUSY;
  else if (said.find("ermission denied") != std::string::npos || said.find("not permitted") != std::string::npos) error = EPERM;
  else if (said.find("not found") != std::string::npos || said.find("No such") != std::string::npos) error = ENOENT;
  else if (said.find("not mounted") != std::string::npos || said.find("Invalid argument") != std::string::npos) error = EINVAL;
  else if (said.find("not connected") != std::string::npos) error = ENOTCONN;
  *failure = {error, "helper", said.empty() ? std::string(kHelper) + " failed without a message" : said};
  return false;
}

// The descriptor that the helper sent over the socket, or -1.
int ReceiveDescriptor(int comm) {
  char byte = 0;
  struct iovec piece = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t count;
  do count = recvmsg(comm, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (count < 0 && errno == EINTR);
  if (count <= 0) return -1;
  const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int))) return -1;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return fd;
}

int MountViaHelper(const MountRequest& request, Failure* failure) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    *failure = {errno, "helper", ""};
    return -1;
  }
  // It lets only root have suid and dev, and knows no more of access times than this.
  std::string options = std::string(request.suid ? "suid," : "nosuid,") + (request.dev ? "dev," : "nodev,") +
                        (request.noatime ? "noatime," : "") + "fsname=" + EscapeOption(request.source) + ",subtype=" + EscapeOption(request.subtype);
  if (request.readOnly) options += ",ro";
  if (request.allowOther) options += ",allow_other";
  if (request.defaultPermissions) options += ",default_permissions";
  const bool done = RunHelper({"-o", options, "--", request.mountPoint}, sockets[1], failure);
  close(sockets[1]);
  const int fd = done ? ReceiveDescriptor(sockets[0]) : -1;
  close(sockets[0]);
  if (!done) return -1;
  if (fd < 0) {
    *failure = {EPROTO, "helper", std::string(kHelper) + " sent no descriptor"};
    return -1;
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return fd;
}

int Mount(const MountRequest& request, Failure* failure) {
  struct stat place;
  if (stat(request.mountPoint.c_str(), &place) != 0) {
    *failure = {errno, "mount-point", ""};
    return -1;
  }
  if (!S_ISDIR(place.st_mode)) {
    *failure = {ENOTDIR, "mount-point", ""};
    return -1;
  }
  if (request.viaHelper || geteuid() != 0) return MountViaHelper(request, failure);

  const int fd = open(kDevice, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    *failure = {errno, "device", std::string("cannot open ") + kDevice + ": " + strerror(errno)};
    return -1;
  }
  std::string data = "fd=" + std::to_string(fd) + ",rootmode=40000,user_id=" + std::to_string(getuid()) + ",group_id=" + std::to_string(getgid());
  if (request.defaultPermissions) data += ",default_permissions";
  if (request.allowOther) data += ",allow_other";
  const unsigned long flags = (request.suid ? 0 : MS_NOSUID) | (request.dev ? 0 : MS_NODEV) | (request.readOnly ? MS_RDONLY : 0) |
                              (request.noatime ? MS_NOATIME : 0) | (request.strictatime ? MS_STRICTATIME : 0) |
                              (request.nodiratime ? MS_NODIRATIME : 0);
  const std::string type = "fuse." + request.subtype;
  if (mount(request.source.c_str(), request.mountPoint.c_str(), type.c_str(), flags, data.c_str()) == 0) return fd;
  const int error = errno;
  close(fd);
  // Root without CAP_SYS_ADMIN (a container): the helper may be allowed to do what this process is not.
  if (error == EPERM) return MountViaHelper(request, failure);
  *failure = {error, "mount", ""};
  return -1;
}

int Unmount(const std::string& mountPoint, bool lazy, bool abort, bool viaHelper, Failure* failure) {
  if (!viaHelper && geteuid() == 0) {
    const int flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0) | (abort ? MNT_FORCE : 0);
    if (umount2(mountPoint.c_str(), flags) == 0) return 0;
    const int error = errno;
    if (error != EPERM) {
      *failure = {error, "unmount", ""};
      return -1;
    }
  }
  std::vector<std::string> arguments = {"-u"};
  if (lazy) arguments.push_back("-z");
  arguments.push_back("--");
  arguments.push_back(mountPoint);
  return RunHelper(arguments, -1, failure) ? 0 : -1;
}

// mount({mountPoint, source, subtype, readOnly, allowOther, defaultPermissions, suid, dev, noatime, strictatime,
// nodiratime, viaHelper}) -> Promise<fd>.
// The caller owns the descriptor (non-blocking, close-on-exec).
napi_value MountBinding(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value options;
  napi_get_cb_info(env, info, &count, &options, nullptr, nullptr);
  MountRequest request = {
      StringProperty(env, options, "mountPoint"),    StringProperty(env, options, "source"),
      StringProperty(env, options, "subtype"),       BoolProperty(env, options, "readOnly"),
      BoolProperty(env, options, "allowOther"),      BoolProperty(env, options, "defaultPermissions"),
      BoolProperty(env, options, "suid"),            BoolProperty(env, options, "dev"),
      BoolProperty(env, options, "noatime"),         BoolProperty(env, options, "strictatime"),
      BoolProperty(env, options, "nodiratime"),      BoolProperty(env, options, "viaHelper"),
  };
  return RunAsPromise(env, "sealdrive.mount", [request](Failure* failure) { return Mount(request, failure); });
}

// unmount(mountPoint, {lazy, abort, viaHelper}) -> Promise<0>. It can wait as long as the kernel does: the caller sets
// a deadline.
napi_value UnmountBinding(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const std::string mountPoint = StringOf(env, arguments[0]);
  const bool lazy = BoolProperty(env, arguments[1], "lazy");
  const bool abort = BoolProperty(env, arguments[1], "abort");
  const bool viaHelper = BoolProperty(env, arguments[1], "viaHelper");
  return RunAsPromise(env, "sealdrive.unmount",
                      [mountPoint, lazy, abort, viaHelper](Failure* failure) { return Unmount(mountPoint, lazy, abort, viaHelper, failure); });
}

}  // namespace

void ExportMount(napi_env env, napi_value exports) {
  Export(env, exports, "mount", MountBinding);
  Export(env, exports, "unmount", UnmountBinding);
}

}  // namespace sealdrive
