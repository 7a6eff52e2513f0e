// Marks the stretch in which a thread runs the application's code from inside the library. Calls that would have to wait for geckod are
// refused there (busy): the thread that runs the callback may be the one that reads geckod's answers.
#pragma once

namespace gecko::api {

class CallbackScope {
 public:
  CallbackScope() { ++depth(); }
  ~CallbackScope() { --depth(); }
  CallbackScope(const CallbackScope&) = delete;
  CallbackScope& operator=(const CallbackScope&) = delete;
  static bool active() { return depth() > 0; }

 private:
  static int& depth() {
    thread_local int value = 0;
    return value;
  }
};

}  // namespace gecko::api
