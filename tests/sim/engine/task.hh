// A callable that can be moved but not copied, small ones without a heap allocation: millions of them make a run.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

namespace gecko::sim {

class Task {
 public:
  Task() = default;
  template <class F>
    requires(!std::is_same_v<std::decay_t<F>, Task>)
  Task(F&& f) {
    using Fn = std::decay_t<F>;
    if constexpr (sizeof(Fn) <= kInline && std::is_nothrow_move_constructible_v<Fn>) {
      new (buffer_) Fn(std::forward<F>(f));
      ops_ = [](Op op, std::byte* self, std::byte* other) {
        auto* fn = std::launder(reinterpret_cast<Fn*>(self));
        if (op == Op::call) return (*fn)();
        if (op == Op::move) new (other) Fn(std::move(*fn));
        fn->~Fn();
      };
    } else {
      new (buffer_) Fn*(new Fn(std::forward<F>(f)));
      ops_ = [](Op op, std::byte* self, std::byte* other) {
        Fn* fn = *std::launder(reinterpret_cast<Fn**>(self));
        if (op == Op::call) (*fn)();
        else if (op == Op::move) new (other) Fn*(fn);
        else delete fn;
      };
    }
  }
  Task(Task&& other) noexcept { take(other); }
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  ~Task() { reset(); }
  void operator()() { ops_(Op::call, buffer_, nullptr); }

 private:
  enum class Op { call, move, destroy };
  static constexpr size_t kInline = 48;
  void take(Task& other) {
    ops_ = std::exchange(other.ops_, nullptr);
    if (ops_) ops_(Op::move, other.buffer_, buffer_);
  }
  void reset() {
    if (ops_) ops_(Op::destroy, buffer_, nullptr);
    ops_ = nullptr;
  }

  alignas(std::max_align_t) std::byte buffer_[kInline];
  void (*ops_)(Op, std::byte*, std::byte*) = nullptr;
};

}  // namespace gecko::sim
