// org.gecko.Socket: its life, its names, its state. What it does is in streams.cc.
#include <poll.h>

#include <memory>
#include <vector>

#include "jni.hh"

namespace gecko::java {
namespace {

SocketObject& object_of(jlong object) { return *from_java<SocketObject>(object); }
gecko_socket* socket_of(jlong object) { return object_of(object).socket; }

// A gecko_yield_fn. The library may call it while Java frees the object, hence the weak reference; *arg lives until gecko_socket_close has returned.
int on_yield(void* arg, gecko_socket* borrowed) {
  auto* s = static_cast<SocketObject*>(arg);
  if (!s->custom) return leaving_rule_yield(&s->rule, borrowed);
  Upcall java;
  if (!java) return 0;
  const jobject object = java->NewLocalRef(s->object);
  const bool go = object != nullptr && java->CallStaticBooleanMethod(names.callbacks, names.may_leave, object);   // may free *s
  return !java.failed() && go ? 1 : 0;
}

// The Java object that has been made for it.
void bind(JNIEnv* env, jclass, jlong object, jobject socket) {
  SocketObject& s = object_of(object);
  s.object = env->NewWeakGlobalRef(socket);
  int rc = gecko_socket_set_blocking(s.socket, 0);
  if (rc == 0) rc = gecko_socket_on_yield(s.socket, on_yield, &s, nullptr);
  if (rc == GECKO_MOVED || rc == GECKO_CLOSED) rc = 0;   // it left or ended this very moment: the first call will say so
  check(env, rc);
}
void end(JNIEnv*, jclass, jlong object) { gecko_socket_end(socket_of(object)); }
void close(JNIEnv* env, jclass, jlong object) {
  const std::unique_ptr<SocketObject> s(&object_of(object));
  gecko_socket_close(s->socket);   // waits for a callback that runs in another thread
  if (s->object != nullptr) env->DeleteWeakGlobalRef(s->object);
}
void set_custom(JNIEnv*, jclass, jlong object, jboolean yes) { object_of(object).custom = yes != 0; }

// In the order of the constants in Native.java.
jstring text(JNIEnv* env, jclass, jlong object, jint which) {
  const char* (*const calls[])(gecko_socket*) = {gecko_socket_peer_text, gecko_socket_local_text, gecko_socket_from};
  return to_java(env, calls[which](socket_of(object)));
}
jbyteArray id(JNIEnv* env, jclass, jlong object) {
  uint8_t raw[16];
  gecko_socket_id(socket_of(object), raw);
  return to_java(env, raw, sizeof raw);
}
jboolean is_moved(JNIEnv*, jclass, jlong object) { return gecko_socket_state(socket_of(object)) == GECKO_SOCKET_MOVED; }
jboolean is_postponed(JNIEnv*, jclass, jlong object) { return gecko_socket_is_postponed(socket_of(object)) != 0; }

// Bytes that another thread may change meanwhile.
jbyteArray bytes_from(JNIEnv* env, gecko_socket* socket, size_t (*call)(gecko_socket*, void*, size_t)) {
  std::vector<char> room(4096);
  for (;;) {
    const size_t size = call(socket, room.data(), room.size());
    if (size <= room.size()) return to_java(env, room.data(), size);
    room.resize(size);
  }
}
std::vector<char> bytes_to(JNIEnv* env, jbyteArray from) {
  std::vector<char> bytes(static_cast<size_t>(env->GetArrayLength(from)));
  env->GetByteArrayRegion(from, 0, static_cast<jsize>(bytes.size()), reinterpret_cast<jbyte*>(bytes.data()));
  return bytes;
}
jbyteArray state(JNIEnv* env, jclass, jlong object) { return bytes_from(env, socket_of(object), gecko_socket_get_state); }
void set_state(JNIEnv* env, jclass, jlong object, jbyteArray from) {
  const auto bytes = bytes_to(env, from);
  check(env, gecko_socket_set_state(socket_of(object), bytes.data(), bytes.size()));
}

// Calls that cannot be answered while a move is on its way: its outcome decides.
template <class Call>
int settled(gecko_socket* socket, Call call) {
  constexpr int kLook_ms = 50;   // a move's end wakes the wait
  for (;;) {
    const int rc = call();
    if (rc != GECKO_AGAIN) return rc;
    const int ready = gecko_socket_wait(socket, POLLIN | POLLOUT, kLook_ms);
    if (ready < 0) return ready;
  }
}
void checkpoint(JNIEnv* env, jclass, jlong object, jbyteArray from) {
  const auto bytes = bytes_to(env, from);
  gecko_socket* socket = socket_of(object);
  check(env, settled(socket, [&] { return gecko_socket_checkpoint(socket, bytes.data(), bytes.size()); }));
}
jlongArray numbers(JNIEnv* env, const std::vector<jlong>& all) {
  const jlongArray array = env->NewLongArray(static_cast<jsize>(all.size()));
  if (array != nullptr) env->SetLongArrayRegion(array, 0, static_cast<jsize>(all.size()), all.data());
  return array;
}
jlongArray offsets(JNIEnv* env, jclass, jlong object) {
  uint64_t received = 0, sent = 0;
  gecko_socket* socket = socket_of(object);
  if (!check(env, settled(socket, [&] { return gecko_socket_offsets(socket, &received, &sent); }))) return nullptr;
  return numbers(env, {static_cast<jlong>(received), static_cast<jlong>(sent)});
}
// Null: not recovered. Without a checkpoint only the first two numbers.
jlongArray recovery(JNIEnv* env, jclass, jlong object) {
  gecko_recovery r{};
  r.size = sizeof r;
  if (gecko_socket_recovery(socket_of(object), &r) == 0) return nullptr;
  std::vector<jlong> all{static_cast<jlong>(r.received), static_cast<jlong>(r.sent)};
  if (r.has_checkpoint != 0) all.insert(all.end(), {static_cast<jlong>(r.input), static_cast<jlong>(r.output)});
  return numbers(env, all);
}
jbyteArray last_checkpoint(JNIEnv* env, jclass, jlong object) { return bytes_from(env, socket_of(object), gecko_socket_get_checkpoint); }

void stay(JNIEnv* env, jclass, jlong object, jbyteArray reason) { check(env, gecko_socket_stay(socket_of(object), Text(env, reason).get())); }
void postpone(JNIEnv* env, jclass, jlong object, jbyteArray reason) { (void)gecko_socket_postpone(socket_of(object), Text(env, reason).get()); }
void shutdown(JNIEnv* env, jclass, jlong object, jint how) {
  gecko_socket* socket = socket_of(object);
  check(env, settled(socket, [&] { return gecko_socket_shutdown(socket, how); }));
}

}  // namespace

Methods socket_methods() {
  static const JNINativeMethod all[] = {
      method("socketBind", "(JLorg/gecko/Socket;)V", bind),
      method("socketEnd", "(J)V", end),
      method("socketClose", "(J)V", close),
      method("setCustom", "(JZ)V", set_custom),
      method("socketText", "(JI)Ljava/lang/String;", text),
      method("socketId", "(J)[B", id),
      method("isMoved", "(J)Z", is_moved),
      method("isPostponed", "(J)Z", is_postponed),
      method("state", "(J)[B", state),
      method("setState", "(J[B)V", set_state),
      method("checkpoint", "(J[B)V", checkpoint),
      method("offsets", "(J)[J", offsets),
      method("recovery", "(J)[J", recovery),
      method("lastCheckpoint", "(J)[B", last_checkpoint),
      method("stay", "(J[B)V", stay),
      method("postpone", "(J[B)V", postpone),
      method("shutdown", "(JI)V", shutdown),
  };
  return {all, std::size(all)};
}

}  // namespace gecko::java
