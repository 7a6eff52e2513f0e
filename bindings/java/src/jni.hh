// What the files of libgecko_jni share. The library is the part of the Java package org.gecko that cannot be Java: the calls of gecko.h, the way of
// the library's callbacks into the virtual machine, and the moments at which a connection may leave. Everything else is Java (../org/gecko).
//
// Objects of the library are numbers in Java (jlong). Who may use one when is decided there (Handle.java): nothing here is called with an object that
// is being freed. Text from Java is UTF-8 in a byte[], because what the JNI calls UTF-8 is not; null is null.
// Errors become org.gecko.GeckoException by check() and raise(): the caller returns at once, with any value.
#pragma once

#include <gecko/gecko.h>
#include <jni.h>

#include <atomic>
#include <string>

#include "../../common/leaving_rule.h"

namespace gecko::java {

// Looked up once, by the thread that loads the library: one of the library's own has no class loader that knows them.
struct Names {
  jclass bytes, string, native, callbacks, exception, member, outcome, client;
  jobject utf8;
  jmethodID new_string, new_exception, new_member, new_outcome, new_client;
  jmethodID may_leave, select, enough, failed;
};
extern Names names;
extern JavaVM* machine;

// The environment of this thread. A thread of the library becomes one of the virtual machine's (daemon) until it ends. Null: the machine is going.
JNIEnv* environment();

class Text {
 public:
  Text(JNIEnv* env, jbyteArray utf8);
  const char* get() const { return null_ ? nullptr : text_.c_str(); }

 private:
  bool null_;
  std::string text_;
};

// Null: an exception is pending (no memory).
jstring to_java(JNIEnv* env, const char* text);   // whatever is no UTF-8 in it is replaced
jbyteArray to_java(JNIEnv* env, const void* data, size_t size);
jobject to_java(JNIEnv* env, const gecko_member& member);
template <class Item>
jobjectArray to_java(JNIEnv* env, jclass of, const Item* items, size_t count, jobject (*convert)(JNIEnv*, const Item&)) {
  const jobjectArray all = env->NewObjectArray(static_cast<jsize>(count), of, nullptr);
  for (size_t i = 0; all != nullptr && i < count; ++i) {
    const jobject item = convert(env, items[i]);
    if (item == nullptr) return nullptr;
    env->SetObjectArrayElement(all, static_cast<jsize>(i), item);
    env->DeleteLocalRef(item);
  }
  return all;
}
jobjectArray to_java(JNIEnv* env, const gecko_member* members, size_t count);

void raise(JNIEnv* env, int code, const char* text);
// False: rc was a code, the exception is pending.
bool check(JNIEnv* env, long rc);

template <class T>
T* from_java(jlong object) {
  return reinterpret_cast<T*>(static_cast<intptr_t>(object));
}
inline jlong to_java(const void* object) { return static_cast<jlong>(reinterpret_cast<intptr_t>(object)); }

// Around what is called from the library: local references go, exceptions do not come through.
class Upcall {
 public:
  Upcall();
  ~Upcall();
  Upcall(const Upcall&) = delete;
  Upcall& operator=(const Upcall&) = delete;
  explicit operator bool() const { return env_ != nullptr; }
  JNIEnv* operator->() const { return env_; }
  JNIEnv* get() const { return env_; }
  bool failed();   // there was an exception; it is gone

 private:
  JNIEnv* env_;
};

// What Java has of a socket. Made with it, freed after it.
struct SocketObject {
  gecko_socket* socket;
  LeavingRule rule{};
  std::atomic<bool> custom{false};   // the program decides by itself: `object` has a callback
  jweak object = nullptr;            // the org.gecko.Socket
};

// Methods of org.gecko.Native, for RegisterNatives.
struct Methods {
  const JNINativeMethod* first;
  jint count;
};
Methods framework_methods();
Methods server_methods();
Methods socket_methods();
Methods stream_methods();

inline JNINativeMethod method(const char* name, const char* signature, auto* function) {
  return {const_cast<char*>(name), const_cast<char*>(signature), reinterpret_cast<void*>(function)};
}

}  // namespace gecko::java
