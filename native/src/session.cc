// One FUSE connection on Node's event loop: reads requests, hands them to JavaScript, writes replies. Knows no opcode.
#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <memory>
#include <unordered_map>

#include "job.h"
#include "notify.h"
#include "parts.h"

namespace sealdrive {

namespace {

// After this many requests the loop gets its turn: timers, sockets and the promises of earlier requests.
constexpr int kRequestsPerWakeup = 32;
// The loop does not sleep for this long after a request: the next one of the same program comes within microseconds,
// and waking up a processor that has gone to sleep, a virtual one above all, takes longer than answering.
constexpr uint64_t kAwakeNs = 100'000;
// Unless the last pause was longer than this: a program that asks now and then does not keep a core busy.
constexpr uint64_t kBurstPauseNs = 4 * kAwakeNs;
constexpr size_t kPage = 4096;
constexpr size_t kPiecesMax = IOV_MAX - 1;

struct Sessions;

struct Session {
  Sessions* owner = nullptr;
  napi_env env = nullptr;
  int32_t id = 0;
  int fd = -1;
  uv_poll_t poll = {};
  uv_async_t room = {};
  // While it is active the loop polls without waiting.
  uv_idle_t awake = {};
  uint64_t lastServedNs = 0;
  int openHandles = 0;
  bool closing = false;
  bool ended = false;
  // Views of memory that belongs to JavaScript and is held by the references below.
  uint8_t* request = nullptr;
  size_t requestSize = 0;
  uint8_t* reply = nullptr;
  size_t replySize = 0;
  napi_ref requestRef = nullptr;
  napi_ref replyRef = nullptr;
  napi_ref onRequest = nullptr;
  napi_ref onEnd = nullptr;
  napi_ref onRoom = nullptr;
  napi_async_context context = nullptr;
  std::shared_ptr<NotifyQueue> notify;
};

// Per environment. Sessions are named by small numbers that are never used again, so a late call finds nothing, safely.
struct Sessions {
  std::unordered_map<int32_t, Session*> open;
  int32_t nextId = 1;
  int closingCount = 0;
  napi_async_cleanup_hook_handle hook = nullptr;
  bool tearingDown = false;
};

Sessions* SessionsOf(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<Sessions*>(data);
}

Session* Find(napi_env env, napi_value id) {
  int32_t key = 0;
  if (napi_get_value_int32(env, id, &key) != napi_ok) return nullptr;
  const Sessions* sessions = SessionsOf(env);
  const auto found = sessions->open.find(key);
  return found == sessions->open.end() || found->second->closing ? nullptr : found->second;
}

// Calls into JavaScript. An exception of the function becomes an uncaught one: it has no caller to go to.
void Call(Session* session, napi_ref reference, double argument) {
  const napi_env env = session->env;
  napi_value function, receiver, number, result;
  napi_get_reference_value(env, reference, &function);
  napi_get_undefined(env, &receiver);
  napi_create_double(env, argument, &number);
  if (napi_call_function(env, receiver, function, 1, &number, &result) == napi_pending_exception) {
    napi_value error;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }
}

// Opens what a callback from the loop needs; closing it runs microtasks, so promises of a whole wake-up settle
// together.
class CallbackScope {
 public:
  explicit CallbackScope(Session* session) : env_(session->env) {
    napi_open_handle_scope(env_, &handles_);
    napi_value resource;
    napi_create_object(env_, &resource);
    napi_open_callback_scope(env_, resource, session->context, &callback_);
  }
  ~CallbackScope() {
    napi_close_callback_scope(env_, callback_);
    napi_close_handle_scope(env_, handles_);
  }
  CallbackScope(const CallbackScope&) = delete;
  CallbackScope& operator=(const CallbackScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope handles_ = nullptr;
  napi_callback_scope callback_ = nullptr;
};

void FinishTeardown(Sessions* sessions) {
  if (sessions->tearingDown && sessions->open.empty() && sessions->closingCount == 0 && sessions->hook != nullptr) {
    const auto hook = sessions->hook;
    sessions->hook = nullptr;
    napi_remove_async_cleanup_hook(hook);
  }
}

void OnHandleClosed(uv_handle_t* handle) {
  auto* session = static_cast<Session*>(handle->data);
  if (--session->openHandles > 0) return;
  const napi_env env = session->env;
  Sessions* sessions = session->owner;
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  for (const napi_ref reference : {session->requestRef, session->replyRef, session->onRequest, session->onEnd, session->onRoom}) {
    napi_delete_reference(env, reference);
  }
  napi_async_destroy(env, session->context);
  napi_close_handle_scope(env, scope);
  delete session;
  sessions->closingCount--;
  FinishTeardown(sessions);
}

// Stops reading and closes the descriptor. If the mount still exists and nobody else holds the descriptor, the kernel
// ends the connection.
void Close(Session* session) {
  if (session->closing) return;
  session->closing = true;
  session->owner->open.erase(session->id);
  session->owner->closingCount++;
  session->notify->Stop();
  session->notify.reset();
  uv_poll_stop(&session->poll);
  close(session->fd);
  session->fd = -1;
  uv_close(reinterpret_cast<uv_handle_t*>(&session->poll), OnHandleClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&session->room), OnHandleClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&session->awake), OnHandleClosed);
}

void End(Session* session, int error) {
  if (session->ended) return;
  session->ended = true;
  uv_poll_stop(&session->poll);
  uv_idle_stop(&session->awake);
  Call(session, session->onEnd, error);
}

void OnAwake(uv_idle_t* awake) {
  const auto* session = static_cast<Session*>(awake->data);
  if (uv_hrtime() - session->lastServedNs > kAwakeNs) uv_idle_stop(awake);
}

// Reads waiting requests and hands them over. Microtasks have run when it returns.
void Serve(Session* session) {
  // A poll error (the kernel aborted the connection) shows in read too, with a better errno.
  const CallbackScope scope(session);
  for (int count = 0; count < kRequestsPerWakeup && !session->closing && !session->ended; count++) {
    const ssize_t length = read(session->fd, session->request, session->requestSize);
    if (length >= 0) {
      napi_handle_scope inner;
      napi_open_handle_scope(session->env, &inner);
      Call(session, session->onRequest, static_cast<double>(length));
      napi_close_handle_scope(session->env, inner);
      continue;
    }
    if (errno == EAGAIN) return;
    // ENOENT: the request was interrupted before it could be read.
    if (errno == EINTR || errno == ENOENT) continue;
    End(session, errno);
    return;
  }
}

void OnReadable(uv_poll_t* poll, int, int) {
  auto* session = static_cast<Session*>(poll->data);
  if (session->closing || session->ended) return;
  const bool isBurst = uv_hrtime() - session->lastServedNs < kBurstPauseNs;
  Serve(session);
  session->lastServedNs = uv_hrtime();
  if (isBurst && !session->closing && !session->ended) uv_idle_start(&session->awake, OnAwake);
}

void OnRoom(uv_async_t* async) {
  auto* session = static_cast<Session*>(async->data);
  if (session->closing) return;
  const CallbackScope scope(session);
  Call(session, session->onRoom, 0);
}

// Memory of JavaScript, page aligned, as a Uint8Array.
napi_value MakeBuffer(napi_env env, size_t size, uint8_t** memory, napi_ref* reference) {
  void* data = nullptr;
  napi_value backing, view;
  napi_create_arraybuffer(env, size + kPage, &data, &backing);
  const size_t skip = (kPage - reinterpret_cast<uintptr_t>(data) % kPage) % kPage;
  napi_create_typedarray(env, napi_uint8_array, size, backing, skip, &view);
  napi_create_reference(env, view, 1, reference);
  *memory = static_cast<uint8_t*>(data) + skip;
  return view;
}

// openSession(fd, requestSize, replySize, onRequest(length), onEnd(errno), onNotifyRoom()) -> {id, request, reply}.
// Takes the descriptor over, except when it throws.
napi_value OpenSession(napi_env env, napi_callback_info info) {
  size_t count = 6;
  napi_value arguments[6];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* session = new Session();
  session->owner = SessionsOf(env);
  session->env = env;
  session->fd = static_cast<int>(NumberOf(env, arguments[0]));
  session->requestSize = static_cast<size_t>(NumberOf(env, arguments[1]));
  session->replySize = static_cast<size_t>(NumberOf(env, arguments[2]));
  const int notifyFd = fcntl(session->fd, F_DUPFD_CLOEXEC, 3);
  const int started = notifyFd < 0 ? -errno : uv_poll_init(loop, &session->poll, session->fd);
  if (started != 0) {
    if (notifyFd >= 0) close(notifyFd);
    delete session;
    return ThrowError(env, {-started, "session", ""});
  }
  uv_async_init(loop, &session->room, OnRoom);
  // Waiting for room must not keep the process alive by itself; the poll does.
  uv_unref(reinterpret_cast<uv_handle_t*>(&session->room));
  session->poll.data = session;
  session->room.data = session;
  uv_idle_init(loop, &session->awake);
  session->awake.data = session;
  session->openHandles = 3;
  uv_async_t* room = &session->room;
  session->notify = std::make_shared<NotifyQueue>(notifyFd, [room] { uv_async_send(room); });
  NotifyQueue::Start(session->notify);

  napi_value result, name, id;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "request", MakeBuffer(env, session->requestSize, &session->request, &session->requestRef));
  napi_set_named_property(env, result, "reply", MakeBuffer(env, session->replySize, &session->reply, &session->replyRef));
  napi_create_reference(env, arguments[3], 1, &session->onRequest);
  napi_create_reference(env, arguments[4], 1, &session->onEnd);
  napi_create_reference(env, arguments[5], 1, &session->onRoom);
  napi_create_string_utf8(env, "sealdrive.session", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, nullptr, name, &session->context);
  session->id = session->owner->nextId++;
  session->owner->open.emplace(session->id, session);
  napi_create_int32(env, session->id, &id);
  napi_set_named_property(env, result, "id", id);
  uv_poll_start(&session->poll, UV_READABLE, OnReadable);
  return result;
}

napi_value WriteReply(napi_env env, Session* session, const struct iovec* pieces, size_t count) {
  ssize_t written;
  do written = writev(session->fd, pieces, static_cast<int>(count));
  while (written < 0 && errno == EINTR);
  napi_value result;
  napi_create_int32(env, written < 0 ? errno : 0, &result);
  return result;
}

// reply(id, length) -> errno: writes the first `length` bytes of the reply buffer. 0 when done.
napi_value Reply(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Session* session = Find(env, arguments[0]);
  uint32_t length = 0;
  napi_get_value_uint32(env, arguments[1], &length);
  if (session == nullptr || length > session->replySize) return MakeNumber(env, session == nullptr ? EBADF : EINVAL);
  const struct iovec piece = {session->reply, length};
  return WriteReply(env, session, &piece, 1);
}

// replyPieces(id, length, pieces) -> errno: the same, followed by the pieces (Uint8Arrays, only read, only during the
// call).
napi_value ReplyPieces(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Session* session = Find(env, arguments[0]);
  uint32_t length = 0, pieceCount = 0;
  napi_get_value_uint32(env, arguments[1], &length);
  napi_get_array_length(env, arguments[2], &pieceCount);
  if (session == nullptr || length > session->replySize || pieceCount > kPiecesMax) return MakeNumber(env, session == nullptr ? EBADF : EINVAL);
  struct iovec pieces[kPiecesMax + 1];
  pieces[0] = {session->reply, length};
  size_t used = 1;
  for (uint32_t index = 0; index < pieceCount; index++) {
    napi_value element;
    napi_typedarray_type type;
    size_t size = 0;
    void* data = nullptr;
    napi_get_element(env, arguments[2], index, &element);
    if (napi_get_typedarray_info(env, element, &type, &size, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) return MakeNumber(env, EINVAL);
    if (size > 0) pieces[used++] = {data, size};
  }
  return WriteReply(env, session, pieces, used);
}

// notify(id, message) -> whether it was taken (copied); false: full, onNotifyRoom will be called.
napi_value Notify(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Session* session = Find(env, arguments[0]);
  if (session == nullptr) return MakeBool(env, true);
  napi_typedarray_type type;
  size_t size = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, arguments[1], &type, &size, &data, nullptr, nullptr) != napi_ok || type != napi_uint8_array) {
    return ThrowError(env, {EINVAL, "notify", "a message is a Uint8Array"});
  }
  return MakeBool(env, session->notify->Push(static_cast<uint8_t*>(data), size));
}

// notifyDrained(id) -> whether the kernel has taken all messages; false: onNotifyRoom will be called when it has.
napi_value NotifyDrained(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value id;
  napi_get_cb_info(env, info, &count, &id, nullptr, nullptr);
  Session* session = Find(env, id);
  return MakeBool(env, session == nullptr || session->notify->IsDrained());
}

// closeSession(id): no callback comes after it; calls with the id do nothing from now on.
napi_value CloseSession(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value id;
  napi_get_cb_info(env, info, &count, &id, nullptr, nullptr);
  if (Session* session = Find(env, id)) Close(session);
  return nullptr;
}

void OnTeardown(napi_async_cleanup_hook_handle handle, void* data) {
  auto* sessions = static_cast<Sessions*>(data);
  sessions->tearingDown = true;
  sessions->hook = handle;
  while (!sessions->open.empty()) Close(sessions->open.begin()->second);
  FinishTeardown(sessions);
}

}  // namespace

void ExportSession(napi_env env, napi_value exports) {
  auto* sessions = new Sessions();
  napi_set_instance_data(env, sessions, [](napi_env, void* data, void*) { delete static_cast<Sessions*>(data); }, nullptr);
  napi_add_async_cleanup_hook(env, OnTeardown, sessions, &sessions->hook);
  Export(env, exports, "openSession", OpenSession);
  Export(env, exports, "reply", Reply);
  Export(env, exports, "replyPieces", ReplyPieces);
  Export(env, exports, "notify", Notify);
  Export(env, exports, "notifyDrained", NotifyDrained);
  Export(env, exports, "closeSession", CloseSession);
}

}  // namespace sealdrive
