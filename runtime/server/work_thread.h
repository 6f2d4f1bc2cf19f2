// WorkThread: one thread that runs jobs in order, for what is too slow for the thread that does I/O.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace moraine {

class WorkThread {
 public:
  WorkThread();
  /// Drops the jobs that have not begun, joins.
  ~WorkThread();

  /// Any thread; never waits for a job.
  void Post(std::function<void()> job);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> jobs_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace moraine
