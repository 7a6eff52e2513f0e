// org.gecko.Socket: reading, writing, waiting. The library's socket is always non-blocking; waiting and timeouts are here, and so are the moments at
// which the rule (leaving_rule.h) lets the connection go.
#include <poll.h>

#include <algorithm>
#include <chrono>

#include "jni.hh"

namespace gecko::java {
namespace {

using Clock = std::chrono::steady_clock;

// Beside the codes of gecko.h.
constexpr ssize_t kTimedOut = -1000;
// On the stack: HotSpot promises 80 KiB (StackShadowPages) to what is called from a Java program that has used up its own. An array's bytes are copied,
// because what pins it would stop the garbage collector while the library waits for a lock.
constexpr size_t kPiece = 32 * 1024;
// In Java's words.
constexpr jint kEndOfStream = -1, kNothing = -2;

SocketObject& socket_of(jlong object) { return *from_java<SocketObject>(object); }

class Deadline {
 public:
  explicit Deadline(jint timeout_ms) : ever_(timeout_ms >= 0), end_(Clock::now() + std::chrono::milliseconds(std::max(timeout_ms, 0))) {}
  int left_ms() const {   // negative: for ever
    if (!ever_) return -1;
    return static_cast<int>(std::max(std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()), std::chrono::milliseconds(0)).count());
  }
  bool is_over() const { return ever_ && Clock::now() >= end_; }

 private:
  bool ever_;
  Clock::time_point end_;
};

// Counts itself while it lives: in rule.resting, the connection may leave; in rule.writing, it may not.
template <class Count>
class Counted {
 public:
  explicit Counted(Count& count) : count_(count) { count_.fetch_add(1); }
  ~Counted() { count_.fetch_sub(1); }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  Count& count_;
};

// The connection may leave, and goes if somebody has asked for it.
class Rest {
 public:
  explicit Rest(SocketObject& s) : resting_(s.rule.resting) { leaving_rule_follow(&s.rule, s.socket); }

 private:
  Counted<decltype(LeavingRule::resting)> resting_;
};

// Events; 0: the time is over, or the program has postponed a move and can look whether it can follow now; a code.
int wait_resting(SocketObject& s, short events, const Deadline& deadline) {
  for (;;) {
    const Rest rest(s);
    const int ready = gecko_socket_wait(s.socket, events, deadline.left_ms());
    if (ready != 0 || deadline.is_over() || (s.custom && gecko_socket_is_postponed(s.socket) != 0)) return ready;
  }
}

ssize_t read_waiting(SocketObject& s, void* to, size_t size, jint timeout_ms) {
  const Deadline deadline(timeout_ms);
  for (;;) {
    const ssize_t n = gecko_socket_read(s.socket, to, size);
    if (n != GECKO_AGAIN || timeout_ms == 0) return n;
    const int ready = wait_resting(s, POLLIN, deadline);
    if (ready < 0) return ready;
    if (ready == 0 && deadline.is_over()) return kTimedOut;
  }
}

// All of it; less if something comes in between, which the next call says.
ssize_t write_waiting(SocketObject& s, const char* from, size_t size, jint timeout_ms) {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = gecko_socket_write(s.socket, from + done, size - done);
    if (n >= 0) {
      done += static_cast<size_t>(n);
      continue;
    }
    ssize_t why = n;
    if (n == GECKO_AGAIN && timeout_ms != 0) {
      const Deadline deadline(timeout_ms);   // of a client that takes nothing: begins anew with every byte
      int ready = 0;
      do ready = gecko_socket_wait(s.socket, POLLOUT, deadline.left_ms());
      while (ready == 0 && !deadline.is_over());
      if (ready > 0) continue;
      why = ready == 0 ? kTimedOut : ready;
    }
    return done != 0 ? static_cast<ssize_t>(done) : why;   // what was done is the kernel's, here or where the connection went
  }
  return static_cast<ssize_t>(done);
}

jint read_result(JNIEnv* env, ssize_t n) {
  if (n == kTimedOut) raise(env, GECKO_TIMEOUT, "nothing came in time");
  else check(env, n);
  return n > 0 ? static_cast<jint>(n) : kEndOfStream;
}
jint write_result(JNIEnv* env, ssize_t n) {
  if (n == kTimedOut) raise(env, GECKO_TIMEOUT, "the client did not take anything in time");
  else check(env, n);
  return static_cast<jint>(n);
}

jint read(JNIEnv* env, jclass, jlong object, jbyteArray to, jint offset, jint size, jint timeout_ms) {
  char piece[kPiece];
  const ssize_t n = read_waiting(socket_of(object), piece, std::min(static_cast<size_t>(size), kPiece), timeout_ms);
  if (n > 0) env->SetByteArrayRegion(to, offset, static_cast<jsize>(n), reinterpret_cast<const jbyte*>(piece));
  return read_result(env, n);
}
jint read_direct(JNIEnv* env, jclass, jlong object, jobject to, jint offset, jint size, jint timeout_ms) {
  char* address = static_cast<char*>(env->GetDirectBufferAddress(to)) + offset;
  return read_result(env, read_waiting(socket_of(object), address, static_cast<size_t>(size), timeout_ms));
}
jint peek(JNIEnv* env, jclass, jlong object, jbyteArray to, jint offset, jint size) {
  char piece[kPiece];
  const ssize_t n = gecko_socket_peek(socket_of(object).socket, piece, std::min(static_cast<size_t>(size), kPiece));
  if (n == GECKO_AGAIN) return kNothing;
  if (n > 0) env->SetByteArrayRegion(to, offset, static_cast<jsize>(n), reinterpret_cast<const jbyte*>(piece));
  return read_result(env, n);
}

jint write(JNIEnv* env, jclass, jlong object, jbyteArray from, jint offset, jint size, jint timeout_ms) {
  SocketObject& s = socket_of(object);
  const Counted writing(s.rule.writing);
  char piece[kPiece];
  jint done = 0;
  while (done < size) {
    const jint part = std::min<jint>(size - done, kPiece);
    env->GetByteArrayRegion(from, offset + done, part, reinterpret_cast<jbyte*>(piece));
    const ssize_t n = write_waiting(s, piece, static_cast<size_t>(part), timeout_ms);
    if (n < 0 && done == 0) return write_result(env, n);
    if (n > 0) done += static_cast<jint>(n);
    if (n < part) break;
  }
  return done;
}
jint write_direct(JNIEnv* env, jclass, jlong object, jobject from, jint offset, jint size, jint timeout_ms) {
  SocketObject& s = socket_of(object);
  const Counted writing(s.rule.writing);
  const char* address = static_cast<const char*>(env->GetDirectBufferAddress(from)) + offset;
  return write_result(env, write_waiting(s, address, static_cast<size_t>(size), timeout_ms));
}

jboolean await_readable(JNIEnv* env, jclass, jlong object, jint timeout_ms) {
  const int ready = wait_resting(socket_of(object), POLLIN, Deadline(timeout_ms));
  check(env, ready);
  return ready > 0;
}

// The program moves it itself: this is a moment at which it may leave.
template <class Call>
int while_resting(SocketObject& s, Call call) {
  const Counted resting(s.rule.resting);
  return call(s.socket);
}
void handoff(JNIEnv* env, jclass, jlong object, jbyteArray target, jint timeout_ms) {
  const Text node(env, target);
  check(env, while_resting(socket_of(object), [&](gecko_socket* socket) { return gecko_socket_handoff(socket, node.get(), timeout_ms); }));
}
void handoff_in_background(JNIEnv* env, jclass, jlong object, jbyteArray target) {
  const Text node(env, target);
  check(env, while_resting(socket_of(object), [&](gecko_socket* socket) { return gecko_socket_handoff_background(socket, node.get()); }));
}

// Goes if somebody has asked for it, and says how that ended.
void may_leave(JNIEnv* env, jclass, jlong object) {
  constexpr int kLook_ms = 50;   // a move's end wakes the wait; this is only against one that ended before it began
  SocketObject& s = socket_of(object);
  int rc = 0;
  if (gecko_socket_is_postponed(s.socket) != 0) s.rule.wanted = true;   // also what the program's callback has put off
  if (s.rule.wanted) {
    const Rest rest(s);
    while (rc >= 0 && gecko_socket_state(s.socket) == GECKO_SOCKET_MOVING) rc = gecko_socket_wait(s.socket, POLLIN | POLLOUT, kLook_ms);
  }
  if (rc >= 0 && gecko_socket_state(s.socket) != GECKO_SOCKET_LIVE) rc = gecko_socket_wait(s.socket, POLLIN, 0);   // has moved or ended: says so
  check(env, rc);
}

}  // namespace

Methods stream_methods() {
  static const JNINativeMethod all[] = {
      method("read", "(J[BIII)I", read),
      method("readDirect", "(JLjava/nio/ByteBuffer;III)I", read_direct),
      method("peek", "(J[BII)I", peek),
      method("write", "(J[BIII)I", write),
      method("writeDirect", "(JLjava/nio/ByteBuffer;III)I", write_direct),
      method("awaitReadable", "(JI)Z", await_readable),
      method("handoff", "(J[BI)V", handoff),
      method("handoffInBackground", "(J[B)V", handoff_in_background),
      method("mayLeave", "(J)V", may_leave),
  };
  return {all, std::size(all)};
}

}  // namespace gecko::java
