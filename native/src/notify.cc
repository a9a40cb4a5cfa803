#include "notify.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <utility>

namespace sealdrive {

NotifyQueue::NotifyQueue(int fd, std::function<void()> onRoom) : fd_(fd), onRoom_(std::move(onRoom)) {}

NotifyQueue::~NotifyQueue() { close(fd_); }

void NotifyQueue::Start(const std::shared_ptr<NotifyQueue>& queue) {
  // The new thread inherits the mask: signals are for the loop's thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([queue] { queue->Run(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool NotifyQueue::Push(const uint8_t* message, size_t length) {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    if (stopped_) return true;
    if (messages_.size() >= kMessagesMax) {
      refused_ = true;
      return false;
    }
    messages_.emplace_back(message, message + length);
  }
  wake_.notify_one();
  return true;
}

bool NotifyQueue::IsDrained() {
  const std::lock_guard<std::mutex> guard(mutex_);
  const bool drained = stopped_ || (messages_.empty() && !writing_);
  drainWanted_ = !drained;
  return drained;
}

void NotifyQueue::Stop() {
  {
    const std::lock_guard<std::mutex> guard(mutex_);
    stopped_ = true;
    onRoom_ = nullptr;
    messages_.clear();
  }
  wake_.notify_one();
}

void NotifyQueue::Run() {
  pthread_setname_np(pthread_self(), "fuse-notify");
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopped_ || !messages_.empty(); });
    if (stopped_) return;
    const std::vector<uint8_t> message = std::move(messages_.front());
    messages_.pop_front();
    if (refused_ && messages_.size() <= kMessagesMax / 2) {
      refused_ = false;
      if (onRoom_) onRoom_();
    }
    writing_ = true;
    lock.unlock();
    // ENOENT: the kernel does not know the inode or name, so there was nothing to invalidate.
    // ENODEV: unmounted. Both are fine.
    ssize_t written;
    do written = write(fd_, message.data(), message.size());
    while (written < 0 && errno == EINTR);
    lock.lock();
    writing_ = false;
    if (drainWanted_ && messages_.empty()) {
      drainWanted_ = false;
      if (onRoom_) onRoom_();
    }
  }
}

}  // namespace sealdrive
