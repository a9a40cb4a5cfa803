// Messages to the kernel that no request asked for (FUSE_NOTIFY_*), written by a thread of their own: such a write can
// wait for a page or directory lock whose holder waits for the daemon's reply, so the event loop must never make it.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace sealdrive {

class NotifyQueue {
 public:
  static constexpr size_t kMessagesMax = 4096;

  // Owns `fd`. `onRoom` is called on the notify thread after a push was refused and half of the queue is free again,
  // and after `IsDrained` was false and everything has been written.
  NotifyQueue(int fd, std::function<void()> onRoom);
  ~NotifyQueue();
  NotifyQueue(const NotifyQueue&) = delete;
  NotifyQueue& operator=(const NotifyQueue&) = delete;

  // Starts the thread, which keeps the queue alive until it ends. It is detached: a write that hangs in the kernel
  // must not delay the caller who closes the session.
  static void Start(const std::shared_ptr<NotifyQueue>& queue);

  // Loop thread. Copies the message; false when the queue is full.
  bool Push(const uint8_t* message, size_t length);
  // Loop thread. Whether the kernel has taken every message; if not, `onRoom` is called once it has.
  bool IsDrained();
  // Loop thread. Drops what is queued; after it returns `onRoom` is not called any more.
  void Stop();

 private:
  void Run();

  const int fd_;
  std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_:
  std::function<void()> onRoom_;
  std::deque<std::vector<uint8_t>> messages_;
  bool refused_ = false;
  bool writing_ = false;
  bool drainWanted_ = false;
  bool stopped_ = false;
};

}  // namespace sealdrive
